// The life of one running Selvedge: load, put in force; again on every edit; and at the end, drain.
import type { Logger } from 'pino';
import { formatProblem, hasErrors, type Problem } from '../config/problem.ts';
import { formatHostPort } from '../http/address.ts';
import { locatePluginProblem } from '../proxy/locate-plugin-problem.ts';
import { type FileWatch, watchFiles } from '../watch.ts';
import type { OpenAdmin } from './admin-slot.ts';
import { ConfigError, RoleError } from './config-error.ts';
import type { Address, Engine, Installed } from './engine.ts';
import { Installation, type InstallationOptions } from './installation.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { Reader, type Reading } from './reading.ts';
import { unknownRoles } from './roles.ts';
import { type RuntimeMetrics, registerRuntimeMetrics } from './runtime-metrics.ts';
import type { ConfigSource, Loaded } from './source.ts';
import { type OpenFleet, workersOf, workersProblem } from './workers/count.ts';

export type RuntimeState = 'idle' | 'starting' | 'running' | 'draining' | 'stopped';

export interface RuntimeOptions extends Omit<InstallationOptions, 'openAdmin'> {
  readonly source: ConfigSource;
  readonly version: string;
  /** Reload when a file of the config changes. */
  readonly watch: boolean;
  readonly openAdmin: (runtime: Runtime) => OpenAdmin;
  /** For `workers` above 1; not given: such a config is refused. */
  readonly openFleet?: OpenFleet;
}

/** A config that was refused while another one went on. */
export interface Rejection {
  readonly at: Date;
  readonly reason: string;
  readonly problems: readonly Problem[];
}

export interface ReloadOutcome {
  readonly applied: boolean;
  /** Of the config in force now. */
  readonly revision: number;
  /** Why it was not applied; with `applied`, warnings and certificates that could not be read. */
  readonly problems: readonly Problem[];
}

export interface CloseOptions {
  /** Time in which new requests are still served while readiness fails already; `config`: as `drain.grace` says. */
  readonly graceMs?: number | 'config';
  /** Time for what is in flight after that; `config` (default): as `drain.timeout` says. */
  readonly timeoutMs?: number | 'config';
  /**
   * Called once the grace is over, while everything is still served: what ends here ends before the listeners close.
   * Its own bound is for it to keep; `timeoutMs` is what the drain after it gets.
   */
  readonly beforeClosing?: (timeoutMs: number) => Promise<void>;
}

const CERTIFICATES = 'certificates changed';

interface ReloadOrder {
  readonly reason: string;
  /** Reading that began for it already. */
  readonly ahead: Reading | null;
}

export class Runtime {
  readonly #options: RuntimeOptions;
  readonly #log: Logger;
  readonly #openAdmin: OpenAdmin;
  readonly #metrics: RuntimeMetrics;
  readonly #files: FileWatch | null;
  readonly #reloads = new OneAtATime((order: ReloadOrder) => this.#reload(order));
  readonly #reader: Reader;
  /** Every file of the config in force, and of those refused since. */
  #watched: readonly string[] = [];
  /** Made for the first config that could be read: it says how many processes serve. */
  #engine: Engine | null = null;
  #state: RuntimeState = 'idle';
  #loaded: Loaded | null = null;
  #loadedAt: Date | null = null;
  #lastRejected: Rejection | null = null;
  #starting: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  #endGrace: () => void = () => {};

  constructor(options: RuntimeOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#reader = new Reader(options.source);
    this.#openAdmin = options.openAdmin(this);
    this.#metrics = registerRuntimeMetrics(options.registry, options.version, { revision: () => this.revision });
    this.#files = options.watch ? this.#watchFiles() : null;
  }

  get state(): RuntimeState {
    return this.#state;
  }

  /** What was read for it: the config with the place of every value. */
  get loaded(): Loaded | null {
    return this.#loaded;
  }

  get loadedAt(): Date | null {
    return this.#loadedAt;
  }

  /** 0 before the start. */
  get revision(): number {
    return this.#engine?.revision ?? 0;
  }

  /** Null while the last config that was tried is the one in force. */
  get lastRejected(): Rejection | null {
    return this.#lastRejected;
  }

  /** Requests and upgraded connections under way. */
  get inFlight(): number {
    return this.#engine?.inFlight ?? 0;
  }

  /** Whoever serves; null before a config could be read. */
  get engine(): Pick<Engine, 'ask' | 'rollouts'> | null {
    return this.#engine;
  }

  /** Prometheus text, of all processes. */
  metrics(): Promise<string> {
    return this.#engine?.metrics() ?? this.#options.registry.metrics();
  }

  addresses(): Readonly<Record<string, Address>> {
    return this.#engine?.addresses() ?? {};
  }

  adminAddress(): Address | null {
    return this.#engine?.adminAddress() ?? null;
  }

  /** Runs the config, or nothing at all. Rejects with a ConfigError or a RoleError. */
  start(): Promise<void> {
    if (this.#state !== 'idle') return Promise.reject(new Error(`cannot start: already ${this.#state}`));
    this.#state = 'starting';
    this.#starting = this.#start();
    return this.#starting;
  }

  /**
   * Reads the config again. What is wrong with it is logged and returned, and the old one stays whole.
   * One reload runs at a time; whoever asks meanwhile shares the one after it.
   */
  reload(reason: string): Promise<ReloadOutcome> {
    return this.#reloads.run({ reason, ahead: null });
  }

  /**
   * Readiness fails at once, new requests are served for the grace time, then listeners close and what is in flight gets
   * its time; the rest, upgraded connections included, is cut. Calling it again shares the first call's end; without a
   * grace of its own it ends that of the first.
   */
  close(options: CloseOptions = {}): Promise<void> {
    if (this.#closing === null) this.#closing = this.#drain(options);
    else if (!options.graceMs) this.#endGrace();
    return this.#closing;
  }

  async #start(): Promise<void> {
    try {
      const { applied, problems } = await this.#apply({ reason: 'start', ahead: null });
      if (!applied) throw new ConfigError(problems);
      this.#state = 'running';
    } catch (error) {
      await this.#stop();
      throw error;
    }
  }

  async #reload(order: ReloadOrder): Promise<ReloadOutcome> {
    if (this.#state !== 'running') throw new Error(`cannot reload: ${this.#state}`);
    const outcome = await this.#apply(order);
    if (!outcome.applied) return outcome;
    const stale = (await this.#engine?.reloadCertificates()) ?? [];
    if (stale.length > 0) this.#reject(order.reason, stale);
    return { ...outcome, problems: [...outcome.problems, ...stale] };
  }

  async #apply({ reason, ahead }: ReloadOrder): Promise<ReloadOutcome> {
    const { startedAt, readAt, loaded } = await this.#reader.read(ahead);
    const before = this.#everyAddress();
    const { applied, problems } = await this.#install(loaded);
    this.#watched = applied ? loaded.files : [...new Set([...this.#watched, ...loaded.files])];
    await this.#files?.update(this.#watched, readAt);
    if (!applied) {
      if (this.#state === 'running') this.#reject(reason, problems);
      return { applied, revision: this.revision, problems };
    }
    this.#loaded = loaded;
    this.#loadedAt = new Date();
    this.#lastRejected = null;
    this.#metrics.loaded(this.#loadedAt);
    for (const problem of problems) this.#log.warn(formatProblem(problem));
    this.#announce(before);
    const durationMs = Math.round(performance.now() - startedAt);
    this.#log.info({ reason, revision: this.revision, durationMs }, 'config in force');
    const fault = await loaded.whole;
    if (fault == null) return { applied, revision: this.revision, problems };
    this.#loaded = { ...loaded, provenance: null };
    this.#reject(reason, [fault]);
    return { applied, revision: this.revision, problems: [...problems, fault] };
  }

  async #install({ config, problems, provenance, whole }: Loaded): Promise<Installed> {
    if (config === null || hasErrors(problems)) return { applied: false, problems };
    const unknown = unknownRoles(config, this.#options.roles);
    if (unknown.length > 0 && this.#state === 'starting')
      throw new RoleError(unknown.map(({ message }) => message).join('\n'));
    const { openFleet } = this.#options;
    const workers = workersProblem(config, this.#engine?.config ?? null, openFleet !== undefined);
    const wrong = workers === null ? unknown : [...unknown, workers];
    const placed = async (found: readonly Problem[]): Promise<readonly Problem[]> => {
      if (found.length > 0) await whole;
      return found.map(place);
    };
    const place = (problem: Problem): Problem => {
      if (provenance === null) return problem;
      if (problem.place !== null) return provenance.scrub(locatePluginProblem(problem, config, provenance));
      return provenance.scrub({ ...problem, place: provenance.locate(problem.path.split('.')) });
    };
    if (wrong.length > 0) return { applied: false, problems: [...problems, ...(await placed(wrong))] };
    this.#engine ??= await this.#openEngine(workersOf(config), openFleet);
    provenance?.hide(await this.#engine.optionSchemas(config));
    const installed = await this.#engine.install(config);
    return { applied: installed.applied, problems: [...problems, ...(await placed(installed.problems))] };
  }

  async #openEngine(workers: number, openFleet: OpenFleet | undefined): Promise<Engine> {
    const options = { ...this.#options, openAdmin: this.#openAdmin };
    return workers === 1 || openFleet === undefined ? new Installation(options) : openFleet(workers, options);
  }

  #everyAddress(): ReadonlyMap<string, string> {
    const admin = this.adminAddress();
    const all = [...Object.entries(this.addresses()), ...(admin === null ? [] : [['admin', admin] as const])];
    return new Map(all.map(([key, { host, port }]) => [key, formatHostPort(host, port)]));
  }

  #announce(before: ReadonlyMap<string, string>): void {
    const now = this.#everyAddress();
    for (const [listener, address] of now)
      if (before.get(listener) !== address) this.#log.info({ listener }, `listening on ${address}`);
    for (const [listener, address] of before)
      if (!now.has(listener)) this.#log.info({ listener }, `no longer listening on ${address}`);
  }

  #reject(reason: string, problems: readonly Problem[]): void {
    this.#lastRejected = { at: new Date(), reason, problems };
    this.#metrics.rejected();
    for (const problem of problems) this.#log.error(formatProblem(problem));
    this.#log.error({ reason, revision: this.revision }, 'config rejected: the one in force stays');
  }

  #watchFiles(): FileWatch {
    return watchFiles((changed, isForetold) => void this.#onChange(changed, isForetold), {
      onUnrest: (changed) => this.#onUnrest(changed),
      onError: (error, directory) => this.#log.warn({ err: error, directory }, 'cannot watch: polling instead'),
    });
  }

  #onUnrest(changed: readonly string[]): void {
    if (this.#state !== 'running' || this.#reloads.isBusy || this.#areCertificates(changed)) this.#reader.takeAhead();
    else this.#reader.readAhead();
  }

  #areCertificates(files: readonly string[]): boolean {
    const certificates = this.#engine?.certificateFiles();
    return files.every((file) => certificates?.has(file));
  }

  /** New certificates for listeners need no new config. */
  async #onChange(changed: readonly string[], isForetold = false): Promise<void> {
    const engine = this.#engine;
    if (this.#state !== 'running' || engine === null) return;
    // A reload that has to wait reads what is there by then.
    const begun = this.#reader.takeAhead();
    const ahead = isForetold && !this.#reloads.isBusy ? begun : null;
    if (!this.#areCertificates(changed)) {
      await this.#reloads
        .run({ reason: `changed: ${changed.join(', ')}`, ahead })
        .catch((error) => this.#log.error({ err: error }, 'reload failed'));
      return;
    }
    const problems = await engine.reloadCertificates();
    if (problems.length > 0) {
      this.#reject(CERTIFICATES, problems);
      return;
    }
    if (this.#lastRejected?.reason === CERTIFICATES) this.#lastRejected = null;
    this.#log.info({ files: changed }, 'certificates rotated');
  }

  async #drain({ graceMs = 0, timeoutMs = 'config', beforeClosing }: CloseOptions): Promise<void> {
    // A process that is still starting finishes that first: half a start cannot be drained.
    await this.#starting?.catch(() => undefined);
    if (this.#state === 'stopped') return;
    this.#state = 'draining';
    this.#files?.close();
    const drain = this.#engine?.config?.drain;
    const grace = graceMs === 'config' ? (drain?.graceMs ?? 0) : graceMs;
    if (grace > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, grace);
        this.#endGrace = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const withinMs = timeoutMs === 'config' ? (drain?.timeoutMs ?? 0) : timeoutMs;
    await beforeClosing?.(withinMs);
    await this.#engine?.drain(withinMs);
    await this.#stop();
  }

  async #stop(): Promise<void> {
    this.#state = 'stopped';
    this.#files?.close();
    await this.#reloads.settled();
    await this.#options.source.close?.();
    await this.#engine?.close();
  }
}

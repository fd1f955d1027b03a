// What is in force in this process: the snapshot, the listeners and the admin server. They change together or not at all.
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config } from '../config/model.ts';
import { hasErrors, type Problem } from '../config/problem.ts';
import type { OptionSchemas } from '../config/secrets.ts';
import { Destinations } from '../egress/destinations.ts';
import { egressCounter } from '../egress/gate.ts';
import { type LookupAll, Resolver } from '../egress/resolve.ts';
import type { Builtins, Central } from '../plugin.ts';
import { SEEN_REQUESTS, type SeenRequests } from '../policies/seen-requests.ts';
import { optionSchemas } from '../proxy/load-plugin.ts';
import { TimerWheel } from '../timer-wheel.ts';
import type { Service } from '../upstream/service.ts';
import { http1Transport } from '../upstream/transport.ts';
import { AdminSlot, type OpenAdmin } from './admin-slot.ts';
import { type CompileDeps, compile } from './compile.ts';
import { DataPlane } from './data-plane.ts';
import type { Address, Answers, Engine, Installed } from './engine.ts';
import { healthOf } from './health.ts';
import { registerIdentityMetrics } from './identity-metrics.ts';
import type { ListenPlace } from './listen-place.ts';
import { Listener } from './listener.ts';
import { certificateFiles, ListenerSet } from './listener-set.ts';
import { MeshIdentity, type OpenIdentity, openMeshIdentity } from './mesh-identity.ts';
import { nothingToRun, type Roles } from './roles.ts';
import { registerRolloutMetrics } from './rollout-metrics.ts';
import { RolloutStore } from './rollouts.ts';
import { registerConnectionsMetric } from './runtime-metrics.ts';
import { SharedStore } from './shared.ts';
import { TcpListener } from './tcp-listener.ts';
import { upstreamMetrics } from './upstream-metrics.ts';

/** How long connections without a request in flight may stay once everything else has ended. */
const LAST_WORDS_MS = 500;
/** How long plugins get to put away what they share: what is queued for a store or a collector. */
const DISPOSAL_MS = 6_000;

export interface InstallationOptions {
  readonly roles: Roles;
  readonly builtins: Builtins;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly openAdmin: OpenAdmin;
  /** Default: as `mesh.identity` says. */
  readonly openIdentity?: OpenIdentity;
  /** How names beyond the mesh are resolved; default: by the system. */
  readonly lookup?: LookupAll;
  /** Where counts are that several processes share; default: there are none. */
  readonly central?: Central;
  /** Where listeners get their sockets; default: they open them, and nobody shares them. */
  readonly place?: ListenPlace;
}

/** One config compiled, its listeners bound beside those in force. Exactly one of the two is called. */
export interface PreparedConfig {
  /** With any error, `abandon` is the only choice. */
  readonly problems: readonly Problem[];
  /** Everything changes hands within this call. */
  commit(): void;
  /** Everything is as it was. */
  abandon(): Promise<void>;
}

export class Installation implements Engine {
  readonly dataPlane: DataPlane;
  readonly listeners: ListenerSet;
  readonly admin: AdminSlot;
  readonly identity: MeshIdentity;
  readonly rollouts: RolloutStore;
  readonly shared: SharedStore;
  readonly #compileDeps: CompileDeps;
  readonly #log: Logger;
  readonly #registry: Registry;
  #closing = false;

  constructor({
    roles,
    builtins,
    logger,
    registry,
    openAdmin,
    lookup,
    openIdentity = openMeshIdentity,
    central,
    place,
  }: InstallationOptions) {
    this.#log = logger;
    this.#registry = registry;
    const wheel = new TimerWheel({ onError: (error) => logger.error({ err: error }, 'a timer failed') });
    this.shared = new SharedStore((error, key) => logger.error({ err: error, key }, 'shared state was not disposed'));
    this.rollouts = new RolloutStore(wheel, logger);
    this.dataPlane = new DataPlane(registry, logger);
    const services = () => this.dataPlane.current?.services ?? NO_SERVICES;
    const { rollouts, shared } = this;
    const events = upstreamMetrics(registry, logger, () => services().values());
    const destinations = new Destinations({ wheel, makeTransport: http1Transport(wheel), idOf: (name) => name });
    const egress = { resolver: new Resolver({ wheel, lookup }), destinations, counter: egressCounter(registry), wheel };
    this.identity = new MeshIdentity(openIdentity, logger, () => this.listeners.refreshIdentity());
    const { identity } = this;
    registerIdentityMetrics(registry, identity);
    this.#compileDeps = {
      roles,
      builtins,
      logger,
      registry,
      wheel,
      shared,
      rollouts,
      services,
      events,
      identity,
      egress,
      central: central ?? null,
    };
    this.listeners = new ListenerSet(
      this.dataPlane,
      (spec, sink) =>
        spec.protocol === 'tcp'
          ? new TcpListener(spec, sink, logger, identity, place)
          : new Listener(spec, sink, logger, identity, place),
      place !== undefined,
    );
    this.admin = new AdminSlot(openAdmin);
    registerConnectionsMetric(registry, () => this.listeners.connections());
    registerRolloutMetrics(registry, this.rollouts);
  }

  get config(): Config | null {
    return this.dataPlane.current?.config ?? null;
  }

  get revision(): number {
    return this.dataPlane.current?.revision ?? 0;
  }

  get inFlight(): number {
    return this.dataPlane.inFlight;
  }

  optionSchemas(config: Config): Promise<OptionSchemas> {
    return optionSchemas(config, this.#compileDeps.builtins);
  }

  async install(config: Config): Promise<Installed> {
    const prepared = await this.prepare(config);
    const { problems } = prepared;
    const applied = !hasErrors(problems) && !this.#closing;
    if (applied) prepared.commit();
    else await prepared.abandon();
    return { applied, problems };
  }

  /** Compiles and binds what is new. Never rejects for what is wrong with the config. */
  async prepare(config: Config): Promise<PreparedConfig> {
    const { snapshot, problems } = await compile(config, this.dataPlane.current, this.#compileDeps);
    if (snapshot === null) return { problems, commit() {}, async abandon() {} };
    if (snapshot.specs.length === 0) {
      const nothing = [...problems, nothingToRun(this.#compileDeps.roles)];
      return { problems: nothing, commit() {}, abandon: async () => snapshot.retire(this.dataPlane.current) };
    }
    const [listeners, admin, identity] = await Promise.all([
      this.listeners.prepare(snapshot.specs),
      this.admin.prepare(config.admin),
      this.identity.prepare(config, snapshot.specs),
    ]);
    return {
      problems: [...problems, ...listeners.problems, ...admin.problems, ...identity.problems],
      commit: () => {
        this.rollouts.adopt(snapshot.rollouts);
        this.dataPlane.swap(snapshot);
        identity.commit();
        listeners.commit(config.drain.timeoutMs);
        this.listeners.refreshIdentity();
        admin.commit();
      },
      abandon: async () => {
        identity.abandon();
        await Promise.all([listeners.abandon(), admin.abandon()]);
        snapshot.retire(this.dataPlane.current);
      },
    };
  }

  addresses(): Readonly<Record<string, Address>> {
    return this.listeners.addresses();
  }

  adminAddress(): Address | null {
    return this.admin.address();
  }

  certificateFiles(): ReadonlySet<string> {
    return certificateFiles(this.listeners.specs);
  }

  reloadCertificates(): Promise<readonly Problem[]> {
    return this.listeners.reloadCertificates();
  }

  metrics(): Promise<string> {
    return this.#registry.metrics();
  }

  async ask<K extends keyof Answers>(about: K): Promise<Answers[K]> {
    return this.#answers[about]();
  }

  readonly #answers: { readonly [K in keyof Answers]: () => Answers[K] } = {
    health: () => healthOf(this.dataPlane.current, this.identity.describe(), this.revision <= 1, this.inFlight),
    routes: () => this.dataPlane.current?.describeRoutes() ?? [],
    services: () => [...(this.dataPlane.current?.services.values() ?? [])].map((service) => service.describe()),
    identity: () => this.identity.describe(),
    seen: () => (this.shared.peek(SEEN_REQUESTS) as SeenRequests | undefined)?.list() ?? [],
  };

  /** Closes the listeners and gives what is in flight `timeoutMs`; what is left then is for `close` to cut. */
  async drain(timeoutMs: number): Promise<void> {
    this.#closing = true;
    this.dataPlane.drain();
    await this.listeners.drain();
    const endsAt = performance.now() + timeoutMs;
    const left = (): number => Math.max(endsAt - performance.now(), 0);
    do {
      await until(() => this.dataPlane.whenIdle(), left());
      // The last responses are on their way, and a connection that is still open may be about to send a request.
      await until(() => this.listeners.whenClosed(), Math.min(left(), LAST_WORDS_MS));
    } while (this.dataPlane.inFlight > 0 && left() > 0);
    const { inFlight } = this.dataPlane;
    if (inFlight > 0) this.#log.warn({ inFlight }, 'drain timeout: cutting what is still in flight');
  }

  /** Ends everything, at once. */
  async close(): Promise<void> {
    this.#closing = true;
    this.dataPlane.abortAll();
    this.listeners.destroy();
    await until(() => this.dataPlane.whenIdle(), LAST_WORDS_MS);
    this.rollouts.adopt(new Map());
    this.#compileDeps.egress.destinations.destroy();
    await this.dataPlane.close();
    await until(() => this.#compileDeps.shared.whenEmpty(), DISPOSAL_MS);
    await this.admin.close();
    this.identity.close();
  }
}

const NO_SERVICES: ReadonlyMap<string, Service> = new Map();

/** Waits for an end, but not for ever. */
async function until(end: () => Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([end(), late]);
  clearTimeout(timer);
}

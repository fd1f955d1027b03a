// The supervisor's side of several workers: it opens the ports, puts each config in force in all of them or in none, and starts again whoever ends.
import type { Logger } from 'pino';
import { Counter, type Registry } from 'prom-client';
import type { Config } from '../../config/model.ts';
import { formatProblem, hasErrors, type Problem } from '../../config/problem.ts';
import type { OptionSchemas } from '../../config/secrets.ts';
import { optionSchemas } from '../../proxy/load-plugin.ts';
import { TimerWheel } from '../../timer-wheel.ts';
import { AdminSlot } from '../admin-slot.ts';
import type { Address, Answers, Engine, Installed, WorkerDescription } from '../engine.ts';
import type { InstallationOptions } from '../installation.ts';
import { certificateFiles } from '../listener-set.ts';
import { openMeshIdentity } from '../mesh-identity.ts';
import { nothingToRun, specsOf } from '../roles.ts';
import { RolloutStore } from '../rollouts.ts';
import { type Handed, type Handle, Shares } from './balance.ts';
import { type Asked, CentralDesk, type CentralServices } from './central.ts';
import { WithHandle } from './channel.ts';
import { FleetMetrics } from './fleet-metrics.ts';
import { IdentityDesk, type IdentityNeed } from './identity.ts';
import { mergeHealth, mergeSeen, mergeServices } from './merge.ts';
import { type OpenSocket, Ports } from './ports.ts';
import { Restarts } from './restarts.ts';
import { type End, type Fork, WorkerProcess } from './worker-process.ts';

/** How long the admin API waits for one of them. */
const ANSWER_MS = 2_000;
/** Beyond the time that a worker was given. */
const SLACK_MS = 2_000;
/** Putting away what plugins share takes up to 6 s. */
const CLOSE_MS = 8_000;

export interface FleetOptions extends Omit<InstallationOptions, 'central' | 'place'> {
  readonly fork: Fork;
  readonly services: CentralServices;
  /** What all of them know and nobody else does: cookies that one worker gave out are good for the others. */
  readonly secret: Buffer;
  readonly openSocket?: OpenSocket;
}

/** The place of one worker; whoever ends is followed by another one. */
interface Slot {
  readonly number: number;
  readonly restarts: Restarts;
  worker: WorkerProcess | null;
  timer: NodeJS.Timeout | null;
}

export class Fleet implements Engine {
  readonly admin: AdminSlot;
  readonly rollouts: RolloutStore;
  readonly #options: FleetOptions;
  readonly #log: Logger;
  readonly #ports: Ports;
  readonly #slots: readonly Slot[];
  readonly #central: CentralDesk;
  readonly #identity: IdentityDesk;
  readonly #metrics: FleetMetrics;
  readonly #shares = new Shares(
    (number, ...told) => this.#slots[number - 1].worker?.channel.tell(...told),
    (number) => this.#slots[number - 1].worker?.answers === true,
  );
  readonly #restarted: Counter;
  #config: Config | null = null;
  #revision = 0;
  #closing = false;
  /** Configs and restarts, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(count: number, options: FleetOptions) {
    const { logger, registry, openAdmin, openIdentity = openMeshIdentity } = options;
    this.#options = options;
    this.#log = logger;
    this.#ports = new Ports(options.openSocket);
    this.admin = new AdminSlot(openAdmin);
    this.rollouts = new RolloutStore(new TimerWheel({ onError() {} }), logger);
    this.#central = new CentralDesk(options.services);
    this.#identity = new IdentityDesk(openIdentity, logger, (number, supply) =>
      this.#slots[number - 1].worker?.channel.ask('identity', supply).catch(() => undefined),
    );
    this.#slots = Array.from({ length: count }, (_, index) => ({
      number: index + 1,
      restarts: new Restarts(),
      worker: null,
      timer: null,
    }));
    this.#restarted = registerRestarts(registry);
    this.#metrics = new FleetMetrics(registry);
  }

  get config(): Config | null {
    return this.#config;
  }

  get revision(): number {
    return this.#revision;
  }

  get inFlight(): number {
    return this.#slots.reduce((sum, { worker }) => sum + (worker?.inFlight ?? 0), 0);
  }

  optionSchemas(config: Config): Promise<OptionSchemas> {
    return optionSchemas(config, this.#options.builtins);
  }

  install(config: Config): Promise<Installed> {
    return this.#inTurn(() => this.#install(config));
  }

  addresses(): Readonly<Record<string, Address>> {
    return this.#ports.addresses();
  }

  adminAddress(): Address | null {
    return this.admin.address();
  }

  certificateFiles(): ReadonlySet<string> {
    return this.#config === null ? new Set() : certificateFiles(specsOf(this.#config, this.#options.roles));
  }

  /** Each reads its own; what one of them could not read is reported once. */
  async reloadCertificates(): Promise<readonly Problem[]> {
    const all = await this.#askServing<readonly Problem[]>('certificates');
    return distinct(all.flat());
  }

  async ask<K extends keyof Answers>(about: K): Promise<Answers[K]> {
    return (await this.#answers[about]()) as Answers[K];
  }

  readonly #answers: { readonly [K in keyof Answers]: () => Promise<Answers[K]> } = {
    health: async () => ({ ...mergeHealth(await this.#askServing('ask', 'health')), workers: this.#describe() }),
    services: async () => mergeServices(await this.#askServing('ask', 'services')),
    seen: async () => mergeSeen(await this.#askServing('ask', 'seen')),
    routes: async () => (await this.#askServing<Answers['routes']>('ask', 'routes'))[0] ?? [],
    identity: async () => (await this.#askServing<Answers['identity']>('ask', 'identity'))[0] ?? null,
  };

  metrics(): Promise<string> {
    return this.#metrics.scrape(this.#serving(), ANSWER_MS);
  }

  async drain(timeoutMs: number): Promise<void> {
    await this.#standStill();
    this.#ports.close();
    await Promise.all(
      this.#serving().map((worker) =>
        worker.channel.ask('drain', timeoutMs, timeoutMs + SLACK_MS).catch((err) => {
          this.#log.error({ err, worker: worker.number }, 'a worker did not drain');
        }),
      ),
    );
  }

  async close(): Promise<void> {
    await this.#standStill();
    this.#ports.close();
    await Promise.all(this.#slots.map(({ worker }) => worker === null || end(worker)));
    await this.admin.close();
    this.#identity.close();
  }

  /** From here on nobody is started, and no config comes in force. */
  async #standStill(): Promise<void> {
    this.#closing = true;
    for (const slot of this.#slots) {
      cancelRestart(slot);
      // Nobody waits for one that is only about to serve.
      if (slot.worker?.serving === false) slot.worker.kill('everything ends');
    }
    await this.#turn;
  }

  async #install(config: Config): Promise<Installed> {
    const specs = specsOf(config, this.#options.roles);
    if (specs.length === 0) return { applied: false, problems: [nothingToRun(this.#options.roles)] };
    const [ports, admin] = await Promise.all([this.#ports.prepare(specs), this.admin.prepare(config.admin)]);
    const own = [...ports.problems, ...admin.problems];
    // Nobody is started for a config that cannot be served.
    const prepared = hasErrors(own) ? [] : await Promise.all(this.#slots.map((slot) => this.#prepare(slot, config)));
    const problems = distinct([...own, ...prepared.flat()]);
    if (hasErrors(problems) || this.#closing) {
      await Promise.all(this.#slots.map((slot) => this.#abandon(slot)));
      ports.abandon();
      await admin.abandon();
      return { applied: false, problems };
    }
    this.#config = config;
    this.#revision++;
    ports.commit();
    admin.commit();
    await Promise.all(this.#slots.map(({ worker }) => worker !== null && this.#commit(worker)));
    return { applied: true, problems };
  }

  async #prepare(slot: Slot, config: Config): Promise<readonly Problem[]> {
    cancelRestart(slot);
    const worker = slot.worker ?? this.#start(slot);
    try {
      // The admin server is the supervisor's.
      return await worker.prepare({ ...config, admin: null });
    } catch (error) {
      const { message } = error as Error;
      worker.kill(message);
      return [{ severity: 'error', place: null, path: '', message: `worker ${slot.number}: ${message}` }];
    }
  }

  async #commit(worker: WorkerProcess): Promise<void> {
    // Whoever cannot follow is replaced, by one that serves the new config.
    await worker.commit().catch((error) => worker.kill((error as Error).message));
    if (worker.serving) this.#shares.joined(worker.number);
  }

  async #abandon(slot: Slot): Promise<void> {
    const { worker } = slot;
    if (worker === null) return;
    if (worker.serving) await worker.abandon().catch((error) => worker.kill((error as Error).message));
    else await end(worker);
  }

  #start(slot: Slot): WorkerProcess {
    const { number } = slot;
    const { fork, roles, secret } = this.#options;
    const worker: WorkerProcess = new WorkerProcess(
      number,
      fork(number),
      {
        socket: (of: { key: string; host: string; port: number }) => new WithHandle(this.#ports.handleOf(of)),
        central: (batch: readonly Asked[]) =>
          this.#central.handle(number, batch, (answers) => worker.channel.tell('central', answers)),
        identity: (need: IdentityNeed) => this.#identity.need(number, need),
        connections: (count: number) => this.#shares.counted(number, count),
        connection: (handed: Handed, client: Handle) => this.#shares.hand(number, handed, client),
        identityUnused: (key: string) => this.#identity.unused(number, key),
      },
      () => performance.now(),
    );
    // Whoever does not take it cannot prepare anything either.
    worker.channel.ask('begin', { roles, secret }).catch(() => undefined);
    slot.worker = worker;
    void worker.ended.then((how) => this.#ended(slot, worker, how));
    return worker;
  }

  #ended(slot: Slot, worker: WorkerProcess, { code, signal, killed }: End): void {
    slot.worker = null;
    this.#central.gone(slot.number);
    this.#identity.gone(slot.number);
    this.#shares.gone(slot.number);
    this.#metrics.gone(worker);
    if (this.#closing || this.#config === null) return;
    const delayMs = slot.restarts.next(worker.servedMs);
    this.#restarted.inc();
    const facts = { worker: slot.number, pid: worker.pid, code, signal, servedMs: Math.round(worker.servedMs) };
    this.#log.error(
      { ...facts, ...(killed === null ? {} : { killed }), restartInMs: delayMs },
      'a worker ended: another one takes its place',
    );
    slot.timer = setTimeout(() => {
      slot.timer = null;
      void this.#inTurn(() => this.#revive(slot));
    }, delayMs);
  }

  /** With the config in force. What fails ends the worker, and with its end the next try begins. */
  async #revive(slot: Slot): Promise<void> {
    const config = this.#config;
    if (this.#closing || config === null || slot.worker !== null) return;
    const problems = await this.#prepare(slot, config);
    const worker = slot.worker as WorkerProcess | null;
    if (worker === null) return;
    if (hasErrors(problems)) {
      for (const problem of problems) this.#log.error({ worker: slot.number }, formatProblem(problem));
      worker.kill('it cannot serve the config in force');
      return;
    }
    await this.#commit(worker);
    if (worker.serving) this.#log.info({ worker: slot.number, pid: worker.pid }, 'worker serves');
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(work);
    this.#turn = run.catch((err) => this.#log.error({ err }, 'workers: this is a defect, please report it'));
    return run;
  }

  #serving(): readonly WorkerProcess[] {
    return this.#slots.flatMap(({ worker }) => (worker?.serving === true ? worker : []));
  }

  /** Whoever does not answer is left out. */
  async #askServing<T>(about: string, argument?: unknown): Promise<readonly T[]> {
    const asked = this.#serving().map((worker) => worker.channel.ask<T>(about, argument, ANSWER_MS));
    const settled = await Promise.allSettled(asked);
    return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  }

  #describe(): readonly WorkerDescription[] {
    return this.#slots.map(({ number, worker, restarts }) => ({
      worker: number,
      pid: worker?.pid ?? null,
      state: worker === null ? 'ended' : worker.serving ? 'serving' : 'starting',
      restarts: restarts.count,
    }));
  }
}

function registerRestarts(registry: Registry): Counter {
  return new Counter({
    name: 'selvedge_worker_restarts_total',
    help: 'Workers that ended by themselves, or were killed because they did not answer, and were started again.',
    registers: [registry],
  });
}

function cancelRestart(slot: Slot): void {
  if (slot.timer !== null) clearTimeout(slot.timer);
  slot.timer = null;
}

/** In order, or by force. */
async function end(worker: WorkerProcess): Promise<void> {
  const late = setTimeout(() => worker.kill('it did not end'), CLOSE_MS);
  worker.channel.tell('close');
  await worker.ended;
  clearTimeout(late);
}

function distinct(problems: readonly Problem[]): readonly Problem[] {
  return [...new Map(problems.map((problem) => [formatProblem(problem), problem])).values()];
}

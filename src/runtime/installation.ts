// What is in force: the snapshot, the listeners and the admin server. They change together or not at all.
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config } from '../config/model.ts';
import { hasErrors, type Problem } from '../config/problem.ts';
import type { OptionSchemas } from '../config/secrets.ts';
import { Destinations } from '../egress/destinations.ts';
import { egressCounter } from '../egress/gate.ts';
import { type LookupAll, Resolver } from '../egress/resolve.ts';
import type { Builtins } from '../plugin.ts';
import { optionSchemas } from '../proxy/load-plugin.ts';
import { TimerWheel } from '../timer-wheel.ts';
import type { Service } from '../upstream/service.ts';
import { http1Transport } from '../upstream/transport.ts';
import { AdminSlot, type OpenAdmin } from './admin-slot.ts';
import { DataPlane } from './data-plane.ts';
import { registerIdentityMetrics } from './identity-metrics.ts';
import { Listener } from './listener.ts';
import { ListenerSet } from './listener-set.ts';
import { MeshIdentity, type OpenIdentity, openMeshIdentity } from './mesh-identity.ts';
import { nothingToRun } from './roles.ts';
import { RolloutStore } from './rollouts.ts';
import { SharedStore } from './shared.ts';
import { type CompileDeps, compile, type Roles, type Snapshot } from './snapshot.ts';
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
}

export class Installation {
  readonly dataPlane: DataPlane;
  readonly listeners: ListenerSet;
  readonly admin: AdminSlot;
  readonly identity: MeshIdentity;
  readonly rollouts: RolloutStore;
  readonly shared: SharedStore;
  readonly #compileDeps: CompileDeps;
  readonly #log: Logger;
  #closing = false;

  constructor({
    roles,
    builtins,
    logger,
    registry,
    openAdmin,
    lookup,
    openIdentity = openMeshIdentity,
  }: InstallationOptions) {
    this.#log = logger;
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
    };
    this.listeners = new ListenerSet(this.dataPlane, (spec, sink) =>
      spec.protocol === 'tcp'
        ? new TcpListener(spec, sink, logger, identity)
        : new Listener(spec, sink, logger, identity),
    );
    this.admin = new AdminSlot(openAdmin);
  }

  optionSchemas(config: Config): Promise<OptionSchemas> {
    return optionSchemas(config, this.#compileDeps.builtins);
  }

  /** Compiles and binds what is new, then everything changes hands within one turn. With any error nothing has changed. */
  async install(config: Config): Promise<{ readonly applied: boolean; readonly problems: readonly Problem[] }> {
    const compiled = await compile(config, this.dataPlane.current, this.#compileDeps);
    const { snapshot, problems } = compiled;
    if (snapshot === null) return { applied: false, problems };
    if (snapshot.specs.length === 0)
      return this.#discard(snapshot, [...problems, nothingToRun(this.#compileDeps.roles)]);
    const [listeners, admin, identity] = await Promise.all([
      this.listeners.prepare(snapshot.specs),
      this.admin.prepare(config.admin),
      this.identity.prepare(config, snapshot.specs),
    ]);
    const all = [...problems, ...listeners.problems, ...admin.problems, ...identity.problems];
    if (hasErrors(all) || this.#closing) {
      identity.abandon();
      await Promise.all([listeners.abandon(), admin.abandon()]);
      return this.#discard(snapshot, all);
    }
    this.rollouts.adopt(snapshot.rollouts);
    this.dataPlane.swap(snapshot);
    identity.commit();
    listeners.commit(config.drain.timeoutMs);
    this.listeners.refreshIdentity();
    admin.commit();
    return { applied: true, problems: all };
  }

  /** Closes the listeners and gives what is in flight `timeoutMs`; what is left then is for `close` to cut. */
  async drain(timeoutMs: number): Promise<void> {
    this.#closing = true;
    this.dataPlane.drain();
    await this.listeners.drain();
    await until(() => this.dataPlane.whenIdle(), timeoutMs);
    const { inFlight } = this.dataPlane;
    if (inFlight > 0) this.#log.warn({ inFlight }, 'drain timeout: cutting what is still in flight');
    // The last responses are on their way, and a connection that was just accepted may be about to send its request.
    else await until(() => this.listeners.whenClosed(), Math.min(timeoutMs, LAST_WORDS_MS));
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

  #discard(snapshot: Snapshot, problems: readonly Problem[]) {
    snapshot.retire(this.dataPlane.current);
    return { applied: false, problems };
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

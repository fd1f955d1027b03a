// The listeners of the running config: new ones are bound before the swap, kept ones updated with it, gone ones drained after it.
import type { Problem } from '../config/problem.ts';
import { Gate } from './gate.ts';
import type { Listener } from './listener.ts';
import type { ListenerSpec, RequestSink } from './listener-spec.ts';

/** What the set needs of a listener. */
export type OpenListener = Pick<
  Listener,
  | 'bind'
  | 'address'
  | 'canUpdate'
  | 'update'
  | 'connections'
  | 'stopAccepting'
  | 'drain'
  | 'leave'
  | 'destroy'
  | 'reloadCertificates'
  | 'refreshIdentity'
>;

/** What one config asks of the set, bound but not in force. Exactly one of the two is called. */
export interface PreparedListeners {
  /** Errors only; with any, `abandon` is the only choice. */
  readonly problems: readonly Problem[];
  /** Puts the change in force; call it in the same turn as the swap. Connections of gone listeners get `drainMs` to end. */
  commit(drainMs: number): void;
  /** Undoes everything: the listeners are as they were. */
  abandon(): Promise<void>;
}

interface Held {
  readonly spec: ListenerSpec;
  readonly listener: OpenListener;
}

interface Bound extends Held {
  readonly gate: Gate;
}

export class ListenerSet {
  readonly #sink: RequestSink;
  readonly #create: (spec: ListenerSpec, sink: RequestSink) => OpenListener;
  readonly #shares: boolean;
  /** By key. */
  #held: ReadonlyMap<string, Held> = new Map();
  /** Gone from the config, until their last connection ended; bounded by `drainMs` of each. */
  readonly #leaving = new Map<OpenListener, NodeJS.Timeout>();

  #lookout: NodeJS.Timeout | undefined;

  /** @param shares sockets come from elsewhere, and any number of listeners may have the same one */
  constructor(sink: RequestSink, create: (spec: ListenerSpec, sink: RequestSink) => OpenListener, shares = false) {
    this.#sink = sink;
    this.#create = create;
    this.#shares = shares;
  }

  /** Binds what is new. Never rejects: what cannot be bound is a problem. */
  async prepare(specs: readonly ListenerSpec[]): Promise<PreparedListeners> {
    const gone = new Map(this.#held);
    const kept: Held[] = [];
    const fresh: ListenerSpec[] = [];
    const moved: ListenerSpec[] = [];
    for (const spec of specs) {
      const held = gone.get(spec.key);
      if (held?.listener.canUpdate(spec)) {
        gone.delete(spec.key);
        kept.push({ spec, listener: held.listener });
      } else {
        moved.push(spec);
      }
    }
    // Only the name of listener or gateway changed: the address stays bound, and its connections open.
    for (const spec of moved) {
      const heir = [...gone].find(([, { listener }]) => listener.canUpdate(spec));
      if (heir === undefined) {
        fresh.push(spec);
        continue;
      }
      gone.delete(heir[0]);
      kept.push({ spec, listener: heir[1].listener });
    }
    const contested = fresh.filter(
      (spec) => !this.#shares && [...gone.values()].some((held) => overlap(held.spec, spec)),
    );
    const free = fresh.filter((spec) => !contested.includes(spec));

    const attempts = await Promise.all(free.map((spec) => this.#bind(spec)));
    const problems = attempts.flatMap((attempt) => ('problem' in attempt ? [attempt.problem] : []));
    const bound = attempts.flatMap((attempt) => ('bound' in attempt ? [attempt.bound] : []));
    const stopped = new Set<Held>();
    // A port that changes hands inside this process (TLS switched on, 0.0.0.0 narrowed to one address) is free for a moment only.
    for (const spec of problems.length === 0 ? contested : []) {
      for (const held of gone.values()) {
        if (stopped.has(held) || !overlap(held.spec, spec)) continue;
        stopped.add(held);
        await held.listener.stopAccepting();
      }
      const attempt = await this.#bind(spec);
      if ('problem' in attempt) {
        problems.push(attempt.problem);
        break;
      }
      bound.push(attempt.bound);
    }
    return {
      problems,
      commit: (drainMs) => this.#commit(kept, bound, gone, stopped, drainMs),
      abandon: () => this.#abandon(bound, stopped),
    };
  }

  /** Every listener in force by its key, with the address that it is bound to. */
  addresses(): Readonly<Record<string, { readonly host: string; readonly port: number }>> {
    const all: Record<string, { readonly host: string; readonly port: number }> = {};
    for (const [key, { listener }] of this.#held) {
      const address = listener.address();
      if (address !== null) all[key] = address;
    }
    return all;
  }

  /** See Listener. */
  refreshIdentity(): void {
    for (const { listener } of this.#held.values()) listener.refreshIdentity();
  }

  get specs(): readonly ListenerSpec[] {
    return [...this.#held.values()].map(({ spec }) => spec);
  }

  /** Open connections by listener key. */
  connections(): ReadonlyMap<string, number> {
    return new Map([...this.#held].map(([key, { listener }]) => [key, listener.connections]));
  }

  /** Reads all certificates again; what could not be taken over keeps its old one and is returned. */
  async reloadCertificates(): Promise<readonly Problem[]> {
    const results = await Promise.all([...this.#held.values()].map(({ listener }) => listener.reloadCertificates()));
    return results.flat();
  }

  /** Accepts nothing any more; connections close with the response that is under way. */
  async drain(): Promise<void> {
    const listeners = [...this.#held.values()].map(({ listener }) => listener);
    await Promise.all(listeners.map((listener) => listener.stopAccepting()));
    for (const listener of listeners) listener.drain();
  }

  /** Resolves when the last connection has ended; call it after `drain`. A further call takes the place of the one before. */
  whenClosed(): Promise<void> {
    clearInterval(this.#lookout);
    return new Promise((resolve) => {
      const look = (): void => {
        if ([...this.connections().values()].some((count) => count > 0)) return;
        clearInterval(this.#lookout);
        resolve();
      };
      this.#lookout = setInterval(look, LOOK_MS);
      look();
    });
  }

  /** Ends every connection now. */
  destroy(): void {
    clearInterval(this.#lookout);
    for (const { listener } of this.#held.values()) listener.destroy();
    for (const [listener, timer] of this.#leaving) {
      clearTimeout(timer);
      listener.destroy();
    }
    this.#leaving.clear();
    this.#held = new Map();
  }

  async #bind(spec: ListenerSpec): Promise<{ readonly bound: Bound } | { readonly problem: Problem }> {
    const gate = new Gate(this.#sink);
    const listener = this.#create(spec, gate);
    try {
      await listener.bind();
      return { bound: { spec, listener, gate } };
    } catch (error) {
      listener.destroy();
      return { problem: { severity: 'error', place: spec.at, path: '', message: (error as Error).message } };
    }
  }

  #commit(
    kept: readonly Held[],
    bound: readonly Bound[],
    gone: ReadonlyMap<string, Held>,
    stopped: ReadonlySet<Held>,
    drainMs: number,
  ): void {
    for (const { spec, listener } of kept) listener.update(spec);
    this.#held = new Map([...kept, ...bound].map(({ spec, listener }) => [spec.key, { spec, listener }]));
    for (const { gate } of bound) gate.open();
    for (const held of gone.values()) {
      if (!stopped.has(held)) void held.listener.stopAccepting();
      // Of one that has been opened anew, what still comes is served like what comes there.
      if (this.#held.has(held.spec.key)) held.listener.drain(0);
      else held.listener.leave();
      this.#cutLater(held.listener, drainMs);
    }
  }

  /** Its requests finish, its idle connections end; what is left after `drainMs` is cut. */
  #cutLater(listener: OpenListener, drainMs: number): void {
    const timer = setTimeout(() => {
      this.#leaving.delete(listener);
      listener.destroy();
    }, drainMs);
    this.#leaving.set(listener, timer.unref());
  }

  async #abandon(bound: readonly Bound[], stopped: ReadonlySet<Held>): Promise<void> {
    for (const { listener } of bound) {
      await listener.stopAccepting();
      listener.destroy();
    }
    for (const { spec, listener } of stopped) {
      const attempt = await this.#bind(spec);
      // Gone to another process within these milliseconds: the old connections are still served, and the next reload tries again.
      if ('problem' in attempt) continue;
      this.#held = new Map(this.#held).set(spec.key, attempt.bound);
      attempt.bound.gate.open();
      listener.drain(0);
      this.#cutLater(listener, MAX_TIMER_MS);
    }
  }
}

/** How often the end of the last connection is looked for, while everything ends. */
const LOOK_MS = 10;

const MAX_TIMER_MS = 2 ** 31 - 1;

/** What `reloadCertificates` reads. */
export function certificateFiles(specs: readonly ListenerSpec[]): ReadonlySet<string> {
  const files = new Set<string>();
  for (const { tls } of specs) {
    for (const { cert, key } of tls?.certificates ?? []) files.add(cert).add(key);
    if (tls?.clientCertificate != null) files.add(tls.clientCertificate.ca);
  }
  return files;
}

const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

function overlap(a: ListenerSpec, b: ListenerSpec): boolean {
  if (a.port !== b.port || a.port === 0) return false;
  return a.host === b.host || WILDCARDS.has(a.host) || WILDCARDS.has(b.host);
}

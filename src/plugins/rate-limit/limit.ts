// One limit of a chain, ready to be asked: counted through @fastify/rate-limit with our accounts as its store, or held while under way.
import fastifyRateLimit, { type FastifyRateLimitStore, type FastifyRateLimitStoreCtor } from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { keyReader } from './key.ts';
import type { InFlightSettings, LimitSettings, RateSettings } from './options.ts';
import type { Grant, Quota } from './quota.ts';

/** Where the accounts of a limit are kept: in this process, or where that takes a while. */
export interface Accounts {
  readonly quota: Quota;
  take(key: string, cost: number): Grant | Promise<Grant>;
  giveBack(key: string, cost: number): void;
}

export interface Answer extends Grant {
  readonly key: string;
}

export interface Limit {
  readonly settings: LimitSettings;
  ask(request: FastifyRequest): Promise<Answer>;
  /** Takes back what was granted: the request is refused after all. */
  undo(key: string): void;
  /** A granted request is over. */
  end(key: string): void;
}

type CreateOptions = Parameters<FastifyInstance['createRateLimit']>[0];

/** What of the options of a limiter reaches its store. */
interface StoreOptions {
  readonly counters: Accounts;
  readonly cost: number;
}

/** The one for all routes, which has no limit of its own, and its children, which have one each. */
class Store implements FastifyRateLimitStore {
  readonly #options: Partial<StoreOptions>;

  constructor(options: Partial<StoreOptions> = {}) {
    this.#options = options;
  }

  /** In memory in one go, without a turn of the event loop between the question and the answer: what is granted is exact. */
  incr(key: string, answer: (error: Error | null, result?: { current: number; ttl: number }) => void): void {
    const { counters, cost } = this.#options;
    if (counters === undefined || cost === undefined) {
      answer(new Error('the limiter has no limit'));
      return;
    }
    const { capacity } = counters.quota;
    const tell = ({ granted, remaining, waitMs }: Grant): void =>
      answer(null, { current: granted ? capacity - remaining : capacity + 1, ttl: waitMs });
    const grant = counters.take(key, cost);
    if (grant instanceof Promise) grant.then(tell, answer);
    else tell(grant);
  }

  child(options: unknown): Store {
    return new Store(options as StoreOptions);
  }
}

/** Chains whose `createRateLimit` counts in our accounts. */
const ours = new WeakSet<FastifyInstance>();

/** Makes `app.createRateLimit` one that counts in our accounts. */
export async function useRateLimit(app: FastifyInstance): Promise<void> {
  if (ours.has(app)) return;
  // It would keep the decorator of the other, and with it a store that knows neither buckets nor bounds.
  if (app.hasDecorator('createRateLimit'))
    throw new Error('@fastify/rate-limit is in this chain already: leave it out');
  await app.register(fastifyRateLimit, { global: false, store: Store as unknown as FastifyRateLimitStoreCtor });
  ours.add(app);
}

export function rateLimit(app: FastifyInstance, settings: RateSettings, counters: Accounts): Limit {
  const { cost, key } = settings;
  const { capacity, periodMs } = settings.quota;
  const options: CreateOptions & StoreOptions = {
    max: capacity,
    timeWindow: periodMs,
    keyGenerator: keyReader(key),
    counters,
    cost,
  };
  const limiter = app.createRateLimit(options);
  return {
    settings,
    async ask(request) {
      const answer = await limiter(request);
      // "Allowed" is its word for what is on a list of exceptions, and there is none.
      if (answer.isAllowed) throw new Error('the limiter asked no account');
      return { key: answer.key, granted: !answer.isExceeded, remaining: answer.remaining, waitMs: answer.ttl };
    },
    undo: (key) => counters.giveBack(key, cost),
    end: () => {},
  };
}

/** Requests under way by key: as many entries as there are requests, at most. */
export class UnderWay {
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#counts.size;
  }

  enter(key: string, max: number): Grant {
    const before = this.#counts.get(key) ?? 0;
    if (before >= max) return { granted: false, remaining: 0, waitMs: 0 };
    this.#counts.set(key, before + 1);
    return { granted: true, remaining: max - before - 1, waitMs: 0 };
  }

  leave(key: string): void {
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }
}

export function inFlightLimit(settings: InFlightSettings, underWay: UnderWay): Limit {
  const read = keyReader(settings.key);
  const leave = (key: string): void => underWay.leave(key);
  return {
    settings,
    async ask(request) {
      const key = read(request);
      return { key, ...underWay.enter(key, settings.inFlight) };
    },
    undo: leave,
    end: leave,
  };
}

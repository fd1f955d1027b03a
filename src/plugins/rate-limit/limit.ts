// One limit of a chain, ready to be asked: counted through @fastify/rate-limit with our accounts as its store, or held while under way.
import fastifyRateLimit, { type FastifyRateLimitStore, type FastifyRateLimitStoreCtor } from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { costReader } from './cost.ts';
import { keyReader } from './key.ts';
import type { InFlightSettings, LimitSettings, RateSettings } from './options.ts';
import type { Grant, Quota } from './quota.ts';

/** Where the accounts of a limit are kept: in this process, or where that takes a while. */
export interface Accounts {
  readonly quota: Quota;
  take(key: string, cost: number): Grant | Promise<Grant>;
  /** Takes what is left where that is less than `cost`; nobody waits for it. */
  charge(key: string, cost: number): void;
  giveBack(key: string, cost: number): void;
}

export interface Entered extends Grant {
  /** What is handed back to `leave`; absent where a key is enough. */
  readonly lease?: string;
}

/** Where it is counted what is under way: in this process, or where that takes a while. */
export interface Places {
  enter(key: string, max: number): Entered | Promise<Entered>;
  leave(key: string, lease: string | undefined): void;
}

export interface Answer extends Entered {
  readonly key: string;
  /** The one that was asked: of a limit with plans, that of the client's plan. */
  readonly limit: AskedLimit;
  readonly cost: number;
}

export interface Limit {
  readonly settings: LimitSettings;
  ask(request: FastifyRequest): Answer | Promise<Answer>;
}

export interface AskedLimit extends Limit {
  /** Takes back what was granted: the request is refused after all. */
  undo(answer: Answer): void;
  /** A granted request cost `cost` in all, as it turned out. */
  settle(answer: Answer, cost: number): void;
  /** A granted request is over. */
  end(answer: Answer): void;
}

type CreateOptions = Parameters<FastifyInstance['createRateLimit']>[0];
type Limiter = ReturnType<FastifyInstance['createRateLimit']>;

/** All that a limiter reads of a request, in place of one: Fastify makes a request's `routeOptions` anew for whoever reads them. */
interface Asked {
  readonly key: string;
  readonly routeOptions: object;
}

const NO_OPTIONS = {};

/** What of the options of a limiter reaches its store. */
interface StoreOptions {
  readonly counters: Accounts;
  /** Null: it stands before the key of each request, with a space between. */
  readonly cost: number | null;
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
    const grant = cost === null ? counters.take(...split(key)) : counters.take(key, cost);
    if (grant instanceof Promise) grant.then(tell, answer);
    else tell(grant);
  }

  child(options: unknown): Store {
    return new Store(options as StoreOptions);
  }
}

function split(key: string): [key: string, cost: number] {
  const space = key.indexOf(' ');
  return [key.slice(space + 1), Number(key.slice(0, space))];
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

export function rateLimit(app: FastifyInstance, settings: RateSettings, counters: Accounts): AskedLimit {
  const { cost } = settings;
  const { capacity, periodMs } = settings.quota;
  const fixed = cost.header === null ? cost.least : null;
  const readKey = keyReader(app, settings.key);
  const readCost = costReader(cost);
  const options: CreateOptions & StoreOptions = {
    max: capacity,
    timeWindow: periodMs,
    keyGenerator: (asked) => (asked as unknown as Asked).key,
    counters,
    cost: fixed,
  };
  const limiter = app.createRateLimit(options);
  const read = (said: Awaited<ReturnType<Limiter>>): Answer => {
    // "Allowed" is its word for what is on a list of exceptions, and there is none.
    if (said.isAllowed) throw new Error('the limiter asked no account');
    const { isExceeded, remaining, ttl: waitMs } = said;
    if (fixed !== null) return { limit, key: said.key, cost: fixed, granted: !isExceeded, remaining, waitMs };
    const [key, taken] = split(said.key);
    return { limit, key, cost: taken, granted: !isExceeded, remaining, waitMs };
  };
  const limit: AskedLimit = {
    settings,
    ask(request) {
      const account = readKey(request);
      const asked: Asked = {
        key: fixed === null ? `${readCost(request)} ${account}` : account,
        routeOptions: NO_OPTIONS,
      };
      return limiter(asked as unknown as FastifyRequest).then(read);
    },
    undo: ({ key, cost: taken }) => counters.giveBack(key, taken),
    settle: ({ key, cost: taken }, whole) => {
      if (whole > taken) counters.charge(key, whole - taken);
    },
    end: () => {},
  };
  return limit;
}

export function inFlightLimit(app: FastifyInstance, settings: InFlightSettings, places: Places): AskedLimit {
  const read = keyReader(app, settings.key);
  const leave = ({ key, lease }: Answer): void => places.leave(key, lease);
  const limit: AskedLimit = {
    settings,
    ask(request) {
      const key = read(request);
      const answer = (entered: Entered): Answer => ({ limit, key, cost: 1, ...entered });
      const entered = places.enter(key, settings.inFlight);
      return entered instanceof Promise ? entered.then(answer) : answer(entered);
    },
    undo: leave,
    settle: () => {},
    end: leave,
  };
  return limit;
}

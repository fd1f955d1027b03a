// The accounts of one limit in Redis: all processes charge the same ones, each question one script, so that nothing comes between.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Redis } from 'ioredis';
import type { Grant, Quota } from './quota.ts';

/** Longest wait between two tries to connect. */
const MAX_BACKOFF_MS = 1_000;

/** The arithmetic of quota.ts. A window that is over has no key any more. */
const WINDOW = `
local capacity, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local taken = tonumber(redis.call('GET', KEYS[1]) or '0')
local left = redis.call('PTTL', KEYS[1])
if left < 0 then taken = 0 left = period end
if ARGV[4] == 'rest' then cost = math.min(cost, capacity - taken) end
if taken + cost > capacity then return {0, capacity - taken, left} end
redis.call('SET', KEYS[1], taken + cost, 'PX', math.max(1, left))
return {1, capacity - taken - cost, left}`;

/** By the clock of Redis, so that those of the processes need not agree. Microseconds are as fine as it gets. */
const BUCKET = `
local capacity, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local unit = period / capacity
local from = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local next = from + cost * unit
local function remaining(missing) return math.max(0, math.floor((period - missing + 0.001) / unit)) end
if ARGV[4] == 'rest' then next = from + math.min(cost, remaining(from - now)) * unit end
local early = next - now - period
if early > 0.001 then return {0, remaining(from - now), math.ceil(early)} end
redis.call('SET', KEYS[1], string.format('%.4f', next), 'PX', math.max(1, math.ceil(next - now)))
return {1, remaining(next - now), math.ceil(next - now)}`;

const GIVE_BACK = `
local less = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('SET', KEYS[1], string.format('%.4f', math.max(0, less)), 'PX', left) end
return 1`;

/** Leases of requests under way, each with the time at which it ends: that of a process which died is over by itself. */
const ENTER = `
local max, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local taken = redis.call('ZCARD', KEYS[1])
if taken >= max then return {0, 0, 0} end
redis.call('ZADD', KEYS[1], now + lease, ARGV[3])
redis.call('PEXPIRE', KEYS[1], lease)
return {1, max - taken - 1, 0}`;

/** Puts them back, too, where Redis has forgotten them. */
const RENEW = `
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + lease, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], lease)
return 1`;

export interface Commands {
  selvedgeWindow(key: string, capacity: number, periodMs: number, cost: number, how: How): Promise<Numbers>;
  selvedgeBucket(key: string, capacity: number, periodMs: number, cost: number, how: How): Promise<Numbers>;
  selvedgeGiveBack(key: string, amount: number): Promise<number>;
  selvedgeEnter(key: string, max: number, leaseMs: number, lease: string): Promise<Numbers>;
  selvedgeRenew(key: string, leaseMs: number, ...leases: string[]): Promise<number>;
  zrem(key: string, lease: string): Promise<number>;
}

/** `rest`: what is left is taken where that is less than the cost. */
type How = 'all' | 'rest';

type Numbers = readonly [granted: number, remaining: number, waitMs: number];

/** One connection for all limits of a process. Never keeps a request waiting for longer than `timeoutMs`, nor for a connection. */
export class RedisStore {
  readonly #client: Redis & Commands;
  readonly #opened: Promise<void>;
  readonly #onChange: (reachable: boolean, error: Error | null) => void;
  /** Until it turns out otherwise. */
  #reachable = true;
  #closed = false;

  constructor(url: string, timeoutMs: number, onChange: (reachable: boolean, error: Error | null) => void) {
    this.#onChange = onChange;
    this.#client = new Redis(url, {
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      commandTimeout: timeoutMs,
      connectTimeout: 5_000,
      retryStrategy: (tries) => Math.min(tries * 50, MAX_BACKOFF_MS),
      scripts: {
        selvedgeWindow: { numberOfKeys: 1, lua: WINDOW },
        selvedgeBucket: { numberOfKeys: 1, lua: BUCKET },
        selvedgeGiveBack: { numberOfKeys: 1, lua: GIVE_BACK },
        selvedgeEnter: { numberOfKeys: 1, lua: ENTER },
        selvedgeRenew: { numberOfKeys: 1, lua: RENEW },
      },
    }) as Redis & Commands;
    this.#client.on('error', (error: Error) => this.#change(false, error));
    this.#client.on('close', () => this.#change(false, null));
    this.#client.on('ready', () => this.#change(true, null));
    this.#opened = once(this.#client, 'ready', { signal: AbortSignal.timeout(timeoutMs) }).then(
      () => undefined,
      () => undefined,
    );
  }

  /** Resolves when it is connected, or when that takes longer than a request would wait: once, however many chains ask. */
  open(): Promise<void> {
    return this.#opened;
  }

  async ask<T>(command: (client: Commands) => Promise<T>): Promise<T> {
    try {
      return await command(this.#client);
    } catch (error) {
      // A connection that takes this long is as good as none: with a new one the next requests need not find out one by one.
      if (error instanceof Error && error.message === 'Command timed out' && this.#reachable) {
        this.#change(false, error);
        this.#client.disconnect(true);
      }
      throw error;
    }
  }

  close(): void {
    this.#closed = true;
    this.#client.disconnect();
  }

  #change(reachable: boolean, error: Error | null): void {
    if (this.#reachable === reachable || this.#closed) return;
    this.#reachable = reachable;
    this.#onChange(reachable, error);
  }
}

export class RedisCounters {
  readonly quota: Quota;
  readonly #store: RedisStore;
  readonly #prefix: string;

  /** `identity`: equal for limits that are charged together. */
  constructor(quota: Quota, store: RedisStore, identity: string) {
    this.quota = quota;
    this.#store = store;
    this.#prefix = `selvedge:rate-limit:${hash(identity)}:`;
  }

  async take(key: string, cost: number): Promise<Grant> {
    const [granted, remaining, waitMs] = await this.#change(key, cost, 'all');
    return { granted: granted === 1, remaining, waitMs };
  }

  /** What cannot be charged is lost: the key has that much more. */
  charge(key: string, cost: number): void {
    this.#change(key, cost, 'rest').catch(() => undefined);
  }

  #change(key: string, cost: number, how: How): Promise<Numbers> {
    const { algorithm, capacity, periodMs } = this.quota;
    const command = algorithm === 'fixed-window' ? 'selvedgeWindow' : 'selvedgeBucket';
    const at = this.#keyOf(key);
    return this.#store.ask((client) => client[command](at, capacity, periodMs, cost, how));
  }

  /** What cannot be given back is lost: the key is charged for one request more. */
  giveBack(key: string, cost: number): void {
    const { algorithm, capacity, periodMs } = this.quota;
    const amount = algorithm === 'fixed-window' ? cost : cost * (periodMs / capacity);
    const at = this.#keyOf(key);
    this.#store.ask((client) => client.selvedgeGiveBack(at, amount)).catch(() => undefined);
  }

  /** What clients send (keys of an API, say) is not for everybody to read who may read Redis. */
  #keyOf(key: string): string {
    return this.#prefix + hash(key);
  }
}

export function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 27);
}

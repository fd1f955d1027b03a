// The accounts of all workers, in their supervisor: one question is answered before the next is looked at, so that what is granted is exact.
import type { CentralService } from '../../plugin.ts';
import { Counters } from './counters.ts';
import type { Quota } from './quota.ts';
import { UnderWay } from './under-way.ts';

/** Limits that nobody has any more are kept for so long: their worker may be about to be started again, with its clients as they were. */
const LINGER_MS = 60_000;

/** `accounts` of a quota, or `places` where it is counted what is under way. */
export type Opening =
  | { readonly open: 'accounts'; readonly identity: string; readonly quota: Quota; readonly maxKeys: number }
  | { readonly open: 'places'; readonly identity: string };

export type Question =
  | Opening
  | readonly [what: 'take', limit: number, key: string, cost: number]
  | readonly [what: 'enter', limit: number, key: string, max: number];

export type Message =
  | readonly [what: 'charge' | 'giveBack', limit: number, key: string, cost: number]
  | readonly [what: 'leave', limit: number, key: string]
  | readonly [what: 'close', limit: number];

/** Granted, remaining, milliseconds to wait, and how many keys were forgotten to make room. */
export type Granted = readonly [granted: boolean, remaining: number, waitMs: number, forgotten: number];

interface Opened {
  readonly id: number;
  readonly identity: string;
  readonly counters: Counters | null;
  readonly places: UnderWay;
  /** Worker → how often it opened it. */
  readonly users: Map<number, number>;
  /** Worker → key → how many of its requests are under way. */
  readonly holds: Map<number, Map<string, number>>;
  /** Since it was last told. */
  forgotten: number;
  timer: NodeJS.Timeout | null;
}

/** `now` in milliseconds, of a clock that does not jump. */
export function rateLimitService(now: () => number = () => performance.now()): CentralService {
  /** As many as limits in the configs of the workers. */
  const byIdentity = new Map<string, Opened>();
  const byId = new Map<number, Opened>();
  let ids = 0;

  function open(worker: number, opening: Opening): number {
    const identity = JSON.stringify([opening.open, opening.identity, 'maxKeys' in opening ? opening.maxKeys : 0]);
    const opened = byIdentity.get(identity) ?? make(identity, opening);
    if (opened.timer !== null) clearTimeout(opened.timer);
    opened.timer = null;
    opened.users.set(worker, (opened.users.get(worker) ?? 0) + 1);
    return opened.id;
  }

  function make(identity: string, opening: Opening): Opened {
    const counters =
      opening.open === 'accounts'
        ? new Counters(opening.quota, opening.maxKeys, now, () => {
            made.forgotten++;
          })
        : null;
    const places = new UnderWay();
    const rest = { users: new Map(), holds: new Map(), forgotten: 0, timer: null };
    const made: Opened = { id: ++ids, identity, counters, places, ...rest };
    byIdentity.set(identity, made);
    byId.set(made.id, made);
    return made;
  }

  function find(id: number): Opened {
    const opened = byId.get(id);
    if (opened === undefined) throw new Error('this limit is not open');
    return opened;
  }

  function unused(opened: Opened): void {
    if (opened.users.size > 0 || opened.timer !== null) return;
    opened.timer = setTimeout(() => {
      byIdentity.delete(opened.identity);
      byId.delete(opened.id);
    }, LINGER_MS).unref();
  }

  function enter(worker: number, { places, holds }: Opened, key: string, max: number): Granted {
    const { granted, remaining } = places.enter(key, max);
    if (granted) {
      let held = holds.get(worker);
      if (held === undefined) {
        held = new Map();
        holds.set(worker, held);
      }
      held.set(key, (held.get(key) ?? 0) + 1);
    }
    return [granted, remaining, 0, 0];
  }

  function leave(worker: number, { places, holds }: Opened, key: string): void {
    const held = holds.get(worker);
    const count = held?.get(key) ?? 0;
    if (held === undefined || count === 0) return;
    if (count > 1) held.set(key, count - 1);
    else held.delete(key);
    places.leave(key);
  }

  return {
    ask(worker, question): number | Granted {
      const asked = question as Question;
      if ('open' in asked) return open(worker, asked);
      const [what, limit, key, amount] = asked;
      const opened = find(limit);
      if (what === 'enter') return enter(worker, opened, key, amount);
      if (opened.counters === null) throw new Error('this limit has no accounts');
      const { granted, remaining, waitMs } = opened.counters.take(key, amount);
      const { forgotten } = opened;
      opened.forgotten = 0;
      return [granted, remaining, waitMs, forgotten];
    },
    tell(worker, message) {
      const [what, limit, key = '', cost = 0] = message as readonly [Message[0], number, string?, number?];
      const opened = find(limit);
      if (what === 'charge') opened.counters?.charge(key, cost);
      else if (what === 'giveBack') opened.counters?.giveBack(key, cost);
      else if (what === 'leave') leave(worker, opened, key);
      else {
        const uses = (opened.users.get(worker) ?? 1) - 1;
        if (uses > 0) opened.users.set(worker, uses);
        else opened.users.delete(worker);
        unused(opened);
      }
    },
    gone(worker) {
      for (const opened of byId.values()) {
        for (const [key, count] of opened.holds.get(worker) ?? [])
          for (let i = 0; i < count; i++) opened.places.leave(key);
        opened.holds.delete(worker);
        if (opened.users.delete(worker)) unused(opened);
      }
    },
  };
}

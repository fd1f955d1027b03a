// A rollout on a clock that the test moves, with traffic that the test invents.
import type { RolloutPolicy } from '../../../src/config/model.ts';
import { Rollout, type RolloutStatus, type Transition } from '../../../src/proxy/rollout.ts';
import type { Wheel } from '../../../src/timer-wheel.ts';

export function policy(parts: Partial<RolloutPolicy> = {}): RolloutPolicy {
  return {
    service: 'orders',
    from: 'v1',
    to: 'v2',
    steps: [0.05, 0.25, 0.5, 1],
    everyMs: 120_000,
    abortOn: { errorRate: 0.02, p99Ms: 500, minRequests: 50 },
    at: { file: 'shop.yaml', line: 3, column: 5 },
    ...parts,
  };
}

/** Timers that are exact to the millisecond: hours pass in no time. */
export class ExactWheel implements Wheel {
  #time = 10_000;
  readonly #timers = new Set<{ readonly due: number; readonly fire: () => void }>();

  readonly now = (): number => this.#time;

  get waiting(): number {
    return this.#timers.size;
  }

  after(ms: number, fire: () => void) {
    const timer = { due: this.#time + ms, fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  advance(ms: number): void {
    const end = this.#time + ms;
    for (;;) {
      let first: { readonly due: number; readonly fire: () => void } | null = null;
      for (const timer of this.#timers)
        if (timer.due <= end && (first === null || timer.due < first.due)) first = timer;
      if (first === null) break;
      this.#timers.delete(first);
      this.#time = Math.max(this.#time, first.due);
      first.fire();
    }
    this.#time = end;
  }
}

export interface Told {
  readonly transition: Transition;
  readonly status: RolloutStatus;
}

export function started(parts: Partial<RolloutPolicy> = {}) {
  const wheel = new ExactWheel();
  const told: Told[] = [];
  const rollout = new Rollout(
    'shop',
    policy(parts),
    wheel,
    (_, transition, status) => void told.push({ transition, status }),
  );
  rollout.start();
  return { rollout, wheel, told, ...driver(rollout, wheel) };
}

export function driver(rollout: Rollout, wheel: ExactWheel) {
  return {
    /** Requests that end now; `failed` of them failed and `slow` took a second, spread evenly. */
    requests(version: 'from' | 'to', count: number, { failed = 0, slow = 0, ms = 20 } = {}): void {
      const falls = (index: number, some: number) =>
        Math.floor(((index + 1) * some) / count) > Math.floor((index * some) / count);
      for (let index = 0; index < count; index++) {
        rollout.record(version, falls(index, failed), falls(index, slow) ? 1_000 : ms, wheel.now() + 1_000);
      }
    },
  };
}

/** mulberry32: the same numbers for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

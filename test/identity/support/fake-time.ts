// A clock of certificates that stands still until a test moves it.
import type { Clock } from '../../../src/identity/clock.ts';

interface Timer {
  readonly at: number;
  readonly act: () => void;
}

export class FakeTime implements Clock {
  #now: number;
  readonly #timers = new Set<Timer>();

  /** Real certificates are judged by it: it begins at the real time. */
  constructor(start = Date.now()) {
    this.#now = start;
  }

  readonly now = (): number => this.#now;

  readonly after = (ms: number, act: () => void): (() => void) => {
    const timer = { at: this.#now + ms, act };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** How many wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  /** Milliseconds until the next one; Infinity: none waits. */
  get nextIn(): number {
    return Math.min(...[...this.#timers].map(({ at }) => at)) - this.#now;
  }

  /** Runs what is due at each of its moments, and lets promises settle in between. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.act();
      await settle();
    }
    this.#now = end;
    await settle();
  }

  /** As a machine that sleeps: time goes on, timers do not. */
  sleep(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers]) {
      this.#timers.delete(timer);
      this.#timers.add({ ...timer, at: timer.at + ms });
    }
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

// Time that stands still until a test moves it; drives a TimerWheel without a real timer.
import { TimerWheel } from '../../src/timer-wheel.ts';

interface Ticker {
  readonly tick: () => void;
  /** Between two runs; null: there is one only. */
  readonly ms: number | null;
  due: number;
}

export class FakeClock {
  #time: number;
  readonly #tickers = new Set<Ticker>();

  /** @param start milliseconds */
  constructor(start = 1_000) {
    this.#time = start;
  }

  readonly now = (): number => this.#time;

  readonly setInterval = (tick: () => void, ms: number): unknown => {
    const ticker = { tick, ms, due: this.#time + ms };
    this.#tickers.add(ticker);
    return ticker;
  };

  readonly clearInterval = (ticker: unknown): void => {
    this.#tickers.delete(ticker as Ticker);
  };

  readonly setTimeout = (run: () => void, ms: number): unknown => {
    const ticker = { tick: run, ms: null, due: this.#time + ms };
    this.#tickers.add(ticker);
    return ticker;
  };

  readonly clearTimeout = this.clearInterval;

  /** How many timeouts wait and intervals run. */
  get timers(): number {
    return this.#tickers.size;
  }

  /** Moves time on, running every timer at each of its moments. */
  advance(ms: number): void {
    const end = this.#time + ms;
    for (;;) {
      const next = this.#nextDue();
      if (next === null || next.due > end) break;
      this.#time = Math.max(this.#time, next.due);
      this.#run(next);
    }
    this.#time = end;
  }

  /** Moves time on as a blocked event loop does: what is due runs once, late. */
  stall(ms: number): void {
    this.#time += ms;
    for (const ticker of [...this.#tickers]) {
      if (ticker.due > this.#time) continue;
      ticker.due = this.#time;
      this.#run(ticker);
    }
  }

  #run(ticker: Ticker): void {
    if (ticker.ms === null) this.#tickers.delete(ticker);
    else ticker.due += ticker.ms;
    ticker.tick();
  }

  #nextDue(): Ticker | null {
    let first: Ticker | null = null;
    for (const ticker of this.#tickers) if (first === null || ticker.due < first.due) first = ticker;
    return first;
  }
}

/** A wheel on a clock of its own. */
export function fakeWheel(onError?: (error: Error) => void): { readonly clock: FakeClock; readonly wheel: TimerWheel } {
  const clock = new FakeClock();
  return { clock, wheel: new TimerWheel({ ...pick(clock), onError }) };
}

function pick({ now, setTimeout, clearTimeout }: FakeClock) {
  return { now, setTimeout, clearTimeout };
}

// How hard the process has it, sampled once for all chains by @fastify/under-pressure; what load-shedding judges by.
import underPressure from '@fastify/under-pressure';
import fastify from 'fastify';

const SAMPLE_MS = 500;

/** Seconds, a share of 1, bytes, bytes. */
export const SIGNALS = ['event_loop_delay', 'event_loop_utilization', 'heap', 'rss'] as const;
export type Signal = (typeof SIGNALS)[number];
export type Levels = Readonly<Record<Signal, number>>;

const CALM: Levels = { event_loop_delay: 0, event_loop_utilization: 0, heap: 0, rss: 0 };

export interface Pressure {
  /** One more with each sample. */
  readonly samples: number;
  readonly levels: Levels;
}

/**
 * Of each signal the lower of the last two samples: one long turn (a large reload, a full garbage collection, a laptop that slept)
 * is no overload, and the first good sample ends one.
 */
export class SampledPressure implements Pressure {
  samples = 0;
  levels: Levels = CALM;
  readonly ready: Promise<void>;
  /** Never listens: under-pressure wants an instance, and those of the chains come and go. */
  readonly #sampler = fastify({ logger: false });
  #last: Levels = CALM;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor() {
    // With `cumulative`, its default, a process that was idle for an hour would take another hour to be found busy.
    this.#sampler.register(underPressure, { sampleInterval: SAMPLE_MS, eventLoopUtilizationMode: 'interval' });
    this.ready = Promise.resolve(this.#sampler.ready()).then(() => {
      if (this.#closed) return;
      // Same interval, started later: Node runs it right after under-pressure's own.
      this.#timer = setInterval(() => this.#take(), SAMPLE_MS).unref();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#sampler.close();
  }

  #take(): void {
    const { eventLoopDelay, eventLoopUtilized, heapUsed, rssBytes } = this.#sampler.memoryUsage();
    const now: Levels = {
      event_loop_delay: eventLoopDelay / 1_000,
      event_loop_utilization: eventLoopUtilized,
      heap: heapUsed,
      rss: rssBytes,
    };
    const last = this.#last;
    const lower = (signal: Signal): number => Math.min(last[signal], now[signal]);
    this.levels = {
      event_loop_delay: lower('event_loop_delay'),
      event_loop_utilization: lower('event_loop_utilization'),
      heap: lower('heap'),
      rss: lower('rss'),
    };
    this.#last = now;
    this.samples += 1;
  }
}

// Before an endpoint is chosen: how many requests a service may have under way, found by watching how long they take.
import type { AdaptiveConcurrency } from '../config/model.ts';

/** Latency may be this much above that of an unburdened service before the limit goes down. */
const TOLERANCE = 1.5;

/** The most that one window's latency takes from the limit, before smoothing. */
const MIN_GRADIENT = 0.5;

/** Shares of the way to a lower and to a higher limit that one window goes. */
const SMOOTHING = 0.2;
const GROWTH_SMOOTHING = 0.5;

/** Factor of one window while the limit has never been found too high: from 10 to 1000 in seven windows. */
const FAST_GROWTH = 2;

/** A window has at least this length and this many samples, and lasts as long as so many of its requests. */
const WINDOW_MS = 100;
const WINDOW_SAMPLES = 20;
const WINDOW_LATENCIES = 2;

/** Of the window that the base is taken from: its error stays. */
const MEASUREMENT_SAMPLES = 40;

/** A window that has not come together by then says nothing about now. */
const MAX_WINDOW_MS = 60_000;

/** How often the base is measured anew under pressure. */
const REMEASURE_MS = 30_000;

/** After this long it is measured sooner, where half the limit has not made the service faster. */
const EARLY_REMEASURE_MS = 5_000;

/** Bounds of a measurement, in milliseconds and in latencies of the unburdened service. */
const MAX_MEASUREMENT_MS = 2_000;
const MAX_MEASUREMENT_BASES = 20;
const MAX_DRAINING_BASES = 5;

/**
 * A limit by gradient, as Netflix' Gradient2 and Envoy's adaptive concurrency have it: per window of requests the limit becomes
 * limit × tolerated ÷ observed latency + √limit, smoothed. Tolerated is a multiple of the base: the latency of the service when
 * nothing queues. The base sinks with whatever is faster. It rises only by being measured, and to that end the limit is halved
 * for a moment where the service was under pressure for a while (requests refused, or too slow): a service at ease is never touched.
 *
 * Latencies are averaged by their logarithms, and what may be chance is no reason to act, so that neither stragglers nor a
 * mixture of fast and slow requests move the limit. It stays as it is while less than half of it is used. All times are
 * milliseconds on the process clock; there are no timers, and a request costs constant time.
 */
export class AdaptiveLimit {
  readonly #min: number;
  readonly #max: number;
  #inFlight = 0;
  /** With fraction; what counts is its whole part. */
  #limit: number;
  /** Latency of the service when nothing queues; 0: not known yet. */
  #baseMs = 0;
  /** How many requests it was taken from. */
  #baseSamples = 1;
  #measuredAt = Number.NEGATIVE_INFINITY;
  /** Requests were refused, or too slow, since then. */
  #pressed = false;
  #growsFast = true;
  /** The limit when latency was last within the tolerance. */
  #easyLimit: number;

  /** `open`: adapting. The others, in this order, are the measurement of the base. */
  #phase: 'open' | 'draining' | 'settling' | 'measuring' = 'settling';
  /** The limit of the last measurement. */
  #measuringLimit: number;
  #giveUpAt = Number.POSITIVE_INFINITY;

  #windowStartedAt = Number.NEGATIVE_INFINITY;
  #samples = 0;
  #logSum = 0;
  #logSquares = 0;
  #mostInFlight = 0;

  /** Starts at `min`, where the first base is measured. */
  constructor({ min, max }: AdaptiveConcurrency) {
    this.#min = Math.max(1, min);
    this.#max = Math.max(this.#min, max);
    this.#limit = this.#min;
    this.#easyLimit = this.#min;
    this.#measuringLimit = this.#min;
  }

  /** How many may be under way now. */
  get limit(): number {
    return Math.floor(this.#phase === 'open' ? this.#limit : this.#measuringLimit);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** True: one more is under way, and exactly one `release` follows. */
  tryAcquire(now: number): boolean {
    if (this.#phase !== 'open' && now >= this.#giveUpAt) this.#endMeasuring(now);
    if (this.#inFlight >= this.limit) {
      this.#pressed = true;
      this.#mostInFlight = Math.max(this.#mostInFlight, this.#inFlight);
      return false;
    }
    this.#inFlight += 1;
    if (this.#inFlight > this.#mostInFlight) this.#mostInFlight = this.#inFlight;
    return true;
  }

  /** @param latencyMs to the response head; null: it failed or was aborted, so how long it took says nothing */
  release(latencyMs: number | null, now: number): void {
    this.#inFlight -= 1;
    this.#drain(now);
    if (latencyMs === null || !(latencyMs >= 0)) return;
    if (this.#phase === 'open') this.#observe(latencyMs, now);
    else this.#measure(latencyMs, now);
  }

  #observe(latencyMs: number, now: number): void {
    this.#sample(latencyMs, now);
    if (!this.#windowIsFull(WINDOW_SAMPLES, now)) return;
    const latency = this.#windowLatency();
    const error = this.#errorFactor();
    const isUsed = this.#mostInFlight * 2 >= this.limit;
    this.#startWindow(now);
    if (latency * error < this.#baseMs) this.#baseMs = Math.sqrt(this.#baseMs * latency);
    const gradient = Math.max(MIN_GRADIENT, Math.min(1, (TOLERANCE * error * this.#baseMs) / latency));
    if (gradient < 1) this.#pressed = true;
    else this.#easyLimit = this.#limit;
    if (isUsed) this.#adapt(gradient);
    const sinceMs = now - this.#measuredAt;
    const lowered = gradient < 1 && this.#limit <= Math.max(this.#min, this.#easyLimit / 2);
    if (lowered && sinceMs >= EARLY_REMEASURE_MS) this.#startMeasuring(this.#limit, now);
    else if (this.#pressed && sinceMs >= REMEASURE_MS) this.#startMeasuring(this.#limit / 2, now);
  }

  #adapt(gradient: number): void {
    if (this.#growsFast && gradient < 1) {
      this.#growsFast = false;
      this.#limit = this.#easyLimit;
    } else if (this.#growsFast) this.#limit *= FAST_GROWTH;
    else {
      const next = this.#limit * gradient + Math.sqrt(this.#limit);
      this.#limit += (next < this.#limit ? SMOOTHING : GROWTH_SMOOTHING) * (next - this.#limit);
    }
    this.#limit = Math.max(this.#min, Math.min(this.#max, this.#limit));
  }

  #startMeasuring(limit: number, now: number): void {
    this.#measuringLimit = Math.max(this.#min, Math.floor(limit));
    // Half of those under way have to end. Where they do not, they are streams, and nobody is to wait for them.
    this.#giveUpAt = now + Math.max(WINDOW_MS, MAX_DRAINING_BASES * this.#baseMs);
    this.#phase = 'draining';
    this.#startWindow(now);
    this.#drain(now);
  }

  #drain(now: number): void {
    if (this.#phase !== 'draining' || this.#inFlight > this.#measuringLimit) return;
    this.#phase = 'settling';
    this.#giveUpAt = now + Math.max(MAX_MEASUREMENT_MS, MAX_MEASUREMENT_BASES * this.#baseMs);
    this.#startWindow(now);
  }

  /** Requests that end just after the draining had met a queue, and those that end first after a start are the fast ones. */
  #measure(latencyMs: number, now: number): void {
    if (this.#phase === 'draining') return;
    this.#sample(latencyMs, now);
    if (this.#phase === 'settling') {
      if (!this.#windowIsFull(WINDOW_SAMPLES / 2, now)) return;
      this.#phase = 'measuring';
      this.#startWindow(now);
    } else if (this.#windowIsFull(MEASUREMENT_SAMPLES, now)) this.#endMeasuring(now);
  }

  #endMeasuring(now: number): void {
    if (this.#phase === 'measuring' && this.#samples >= WINDOW_SAMPLES / 2) {
      this.#baseMs = this.#windowLatency();
      this.#baseSamples = this.#samples;
      this.#pressed = false;
      this.#easyLimit = this.#limit;
    }
    this.#phase = 'open';
    this.#measuredAt = now;
    this.#startWindow(now);
  }

  #sample(latencyMs: number, now: number): void {
    if (now - this.#windowStartedAt > MAX_WINDOW_MS) this.#startWindow(now);
    this.#samples += 1;
    // What is faster than the clock's grain is all the same.
    const log = Math.log(Math.max(latencyMs, 0.1));
    this.#logSum += log;
    this.#logSquares += log * log;
  }

  #startWindow(now: number): void {
    this.#windowStartedAt = now;
    this.#samples = 0;
    this.#logSum = 0;
    this.#logSquares = 0;
    this.#mostInFlight = this.#inFlight;
  }

  /** Long enough for slow requests to be among the samples as well as fast ones, and for a new limit to have shown its effect. */
  #windowIsFull(samples: number, now: number): boolean {
    if (this.#samples < samples) return false;
    return now - this.#windowStartedAt >= Math.max(WINDOW_MS, WINDOW_LATENCIES * this.#windowLatency());
  }

  #windowLatency(): number {
    return Math.exp(this.#logSum / this.#samples);
  }

  /** By which the latency of the window and the base may differ by chance: the standard error of the difference of their logarithms. */
  #errorFactor(): number {
    const mean = this.#logSum / this.#samples;
    const variance = Math.max(0, this.#logSquares / this.#samples - mean * mean);
    return Math.exp(Math.sqrt(variance * (1 / this.#samples + 1 / this.#baseSamples)));
  }
}

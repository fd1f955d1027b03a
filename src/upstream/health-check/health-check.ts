// Beside all requests: asks one endpoint at intervals whether it is well, and tells when the answer changes.
import type { HealthCheckPolicy } from '../../config/model.ts';
import { type TimerWheel, WheelEntry } from '../../timer-wheel.ts';
import type { Endpoint, MakeTransport } from '../endpoint.ts';
import { grpcProbe } from './grpc-probe.ts';
import { httpProbe } from './http-probe.ts';
import type { Probe } from './probe.ts';
import { tcpProbe } from './tcp-probe.ts';

export interface HealthCheckDeps {
  readonly wheel: TimerWheel;
  /** In [0, 1). */
  readonly random: () => number;
  readonly makeTransport: MakeTransport;
  /** Name, value, name, value …: what the hop in front of the endpoint has to know (`x-selvedge-endpoint`). Default: nothing. */
  readonly headers?: readonly string[];
}

/** Told of the first verdict and of every change of it. `detail`: the result that decided, such as `status 503`. */
export type HealthReport = (healthy: boolean, detail: string) => void;

export interface HealthCheckResult {
  readonly healthy: boolean;
  readonly detail: string;
  /** Milliseconds on the process clock, when the check began. */
  readonly startedAt: number;
  readonly durationMs: number;
}

export interface HealthCheck {
  /** At once: nothing stays open and nothing is reported any more. */
  stop(): void;
  /** Null: there is none yet. */
  readonly verdict: boolean | null;
  /** Of the last check that has ended, which need not agree with the verdict; null: none has ended yet. */
  readonly lastResult: HealthCheckResult | null;
}

/** Share of the interval by which checks come sooner or later, so that those of many processes do not march in step. */
const JITTER = 0.1;

/**
 * Checks at once, then every `intervalMs` ± 10 % from start to start; a check that takes longer than that is followed by the
 * next when it ends, so two never overlap. The first result is a verdict by itself: whoever waits for it waits for one check
 * and no more. From then on `unhealthyAfter` failures or `healthyAfter` successes in a row change it.
 * `report` is never called before this returns.
 */
export function startHealthCheck(
  endpoint: Endpoint,
  policy: HealthCheckPolicy,
  deps: HealthCheckDeps,
  report: HealthReport,
): HealthCheck {
  const check = new PeriodicCheck(makeProbe(endpoint, policy, deps), policy, deps, report);
  check.start();
  return check;
}

function makeProbe(
  endpoint: Endpoint,
  policy: HealthCheckPolicy,
  { makeTransport, headers = [] }: HealthCheckDeps,
): Probe {
  const { probe } = policy;
  switch (probe.kind) {
    case 'http':
      return httpProbe(endpoint, probe, makeTransport, headers);
    case 'tcp':
      return tcpProbe(endpoint);
    case 'grpc':
      return grpcProbe(endpoint, probe.service, policy.timeoutMs, headers);
  }
}

/** Waits on the wheel for the end of a check while one is under way, and for the start of the next between two. */
class PeriodicCheck extends WheelEntry implements HealthCheck {
  verdict: boolean | null = null;
  lastResult: HealthCheckResult | null = null;
  readonly #probe: Probe;
  readonly #policy: HealthCheckPolicy;
  readonly #wheel: TimerWheel;
  readonly #random: () => number;
  readonly #report: HealthReport;
  /** Results in a row that contradict the verdict. */
  #contrary = 0;
  #startedAt = 0;
  #underWay = false;
  #stopped = false;

  constructor(probe: Probe, policy: HealthCheckPolicy, { wheel, random }: HealthCheckDeps, report: HealthReport) {
    super();
    this.#probe = probe;
    this.#policy = policy;
    this.#wheel = wheel;
    this.#random = random;
    this.#report = report;
  }

  /** The first check. One that fails on the spot is told in a moment, for the caller has no handle yet. */
  start(): void {
    let starting = true;
    this.#begin((healthy, detail) => {
      if (starting) queueMicrotask(() => this.#ended(healthy, detail));
      else this.#ended(healthy, detail);
    });
    starting = false;
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#underWay = false;
    this.cancel();
    this.#probe.close();
  }

  override onTimer(): void {
    if (!this.#underWay) {
      this.#begin((healthy, detail) => this.#ended(healthy, detail));
      return;
    }
    this.#probe.abort();
    this.#ended(false, `timeout after ${this.#policy.timeoutMs} ms`);
  }

  #begin(done: (healthy: boolean, detail: string) => void): void {
    this.#underWay = true;
    this.#startedAt = this.#wheel.now();
    this.#wheel.schedule(this, this.#policy.timeoutMs);
    try {
      this.#probe.begin(done);
    } catch (error) {
      this.#probe.abort();
      done(false, error instanceof Error ? error.message : String(error));
    }
  }

  #ended(healthy: boolean, detail: string): void {
    // Stopped, or timed out, just now.
    if (!this.#underWay) return;
    this.#underWay = false;
    const now = this.#wheel.now();
    this.lastResult = { healthy, detail, startedAt: this.#startedAt, durationMs: now - this.#startedAt };
    const { intervalMs } = this.#policy;
    const toNextMs = intervalMs * (1 - JITTER + this.#random() * 2 * JITTER);
    this.#wheel.schedule(this, Math.max(0, this.#startedAt + toNextMs - now));
    this.#judge(healthy, detail);
  }

  #judge(healthy: boolean, detail: string): void {
    if (healthy === this.verdict) {
      this.#contrary = 0;
      return;
    }
    this.#contrary += 1;
    const { healthyAfter, unhealthyAfter } = this.#policy;
    if (this.verdict !== null && this.#contrary < (healthy ? healthyAfter : unhealthyAfter)) return;
    this.verdict = healthy;
    this.#contrary = 0;
    this.#report(healthy, detail);
  }
}

// Whether the new version of a rollout is worse than the old one: one judgement over what both did in the same moments.
import type { RolloutPolicy } from '../config/model.ts';
import type { Figures } from './rollout-figures.ts';

export interface Verdict {
  /**
   * `good`: within the limits. `few`: too few requests to say. `worse`: over a limit, and worse than the old version.
   * `both`: over a limit, and so is the old version, or nearly. `unsure`: over a limit, perhaps by chance.
   */
  readonly kind: 'good' | 'few' | 'worse' | 'both' | 'unsure';
  /** A sentence with the figures; empty when good. */
  readonly reason: string;
}

/**
 * How many times likelier the failures must be if the new version is worse than if both are alike. A likelihood ratio may be
 * looked at after every request: that it ever passes 1,000 in a window by chance has a probability of 1 in 1,000 (Ville's
 * inequality). A test at 95 % that is repeated so often would abort one good rollout in three.
 */
const LIKELIER = 1_000;

/** What "worse" may mean: failing these many times as often. Equally likely beforehand. */
const TIMES_AS_OFTEN = [2, 5, 20];

/** The share of requests that is slower than the p99. */
const BEYOND_P99 = 0.01;

/** A p99 within this much of the old version's is not worse than it. */
const P99_TOLERANCE = 1.1;

/**
 * The likelihood ratio of `hits` among `trials` that each hit with probability `share`, against odds raised TIMES_AS_OFTEN.
 * Among the failures of two versions that are alike, one is the new version's with the probability of that version's share of the
 * requests, whatever the error rate is or does meanwhile.
 */
export function likelihoodRatio(hits: number, trials: number, share: number): number {
  let sum = 0;
  for (const times of TIMES_AS_OFTEN)
    sum += Math.exp(hits * Math.log(times) - trials * Math.log(1 + (times - 1) * share));
  return sum / TIMES_AS_OFTEN.length;
}

/** `from` is compared when it has `minRequests` of its own; else the limits alone count. */
export function judge(policy: RolloutPolicy, from: Figures, to: Figures): Verdict {
  const { errorRate, p99Ms, minRequests } = policy.abortOn;
  if (to.requests === 0 || to.requests < minRequests) {
    return {
      kind: 'few',
      reason: `${policy.to} has had ${count(to.requests)} of the ${count(minRequests)} requests that a comparison needs`,
    };
  }
  const errors = errorRate === null ? GOOD : judgeErrors(policy, from, to, errorRate);
  if (errors.kind === 'worse' || p99Ms === null) return errors;
  const latency = judgeLatency(policy, from, to, p99Ms);
  return errors.kind === 'good' || latency.kind === 'worse' ? latency : errors;
}

function judgeErrors(policy: RolloutPolicy, from: Figures, to: Figures, limit: number): Verdict {
  if (to.failed <= limit * to.requests) return GOOD;
  const says = failures(policy, from, to, limit);
  if (isCompared(policy, from)) {
    const ratio = likelihoodRatio(to.failed, from.failed + to.failed, to.requests / (from.requests + to.requests));
    if (ratio >= LIKELIER) return { kind: 'worse', reason: says };
    if (from.failed > limit * from.requests) return { kind: 'both', reason: `both versions fail: ${says}` };
  } else if (likelihoodRatio(to.failed, to.requests, limit) >= LIKELIER) return { kind: 'worse', reason: says };
  return { kind: 'unsure', reason: `this may be chance: ${says}` };
}

/** The p99 is over the limit when more than 1 % of the requests are. */
function judgeLatency(policy: RolloutPolicy, from: Figures, to: Figures, limit: number): Verdict {
  if (to.slow <= BEYOND_P99 * to.timed) return GOOD;
  const says = latencies(policy, from, to, limit);
  if (isCompared(policy, from)) {
    const ratio = likelihoodRatio(to.slow, from.slow + to.slow, to.timed / (from.timed + to.timed));
    const slower = (to.p99Ms ?? 0) > (from.p99Ms ?? 0) * P99_TOLERANCE;
    if (ratio >= LIKELIER && slower) return { kind: 'worse', reason: says };
    if (from.slow > BEYOND_P99 * from.timed) return { kind: 'both', reason: `both versions are slow: ${says}` };
    if (!slower) return { kind: 'both', reason: `${policy.to} is hardly slower than ${policy.from}: ${says}` };
  } else if (likelihoodRatio(to.slow, to.timed, BEYOND_P99) >= LIKELIER) return { kind: 'worse', reason: says };
  return { kind: 'unsure', reason: `this may be chance: ${says}` };
}

function isCompared({ abortOn }: RolloutPolicy, from: Figures): boolean {
  return from.requests > 0 && from.requests >= abortOn.minRequests;
}

const GOOD: Verdict = { kind: 'good', reason: '' };

/** `v2 failed 6.0 % of 120 requests, v1 0.4 % of 2,280, limit 2 %`. */
function failures(policy: RolloutPolicy, from: Figures, to: Figures, limit: number): string {
  const old =
    from.requests === 0 ? 'no requests' : `${percent(from.failed / from.requests)} of ${count(from.requests)}`;
  const own = `${policy.to} failed ${percent(to.failed / to.requests)} of ${count(to.requests)} requests`;
  return `${own}, ${policy.from} ${old}, limit ${share(limit)}`;
}

/** `v2's p99 is 812 ms over 120 requests, v1's 140 ms over 2,280, limit 500 ms`. */
function latencies(policy: RolloutPolicy, from: Figures, to: Figures, limit: number): string {
  const old =
    from.p99Ms === null
      ? `${policy.from} had no requests`
      : `${policy.from}'s ${millis(from.p99Ms)} over ${count(from.timed)}`;
  const own = `${policy.to}'s p99 is ${millis(to.p99Ms ?? 0)} over ${count(to.timed)} requests`;
  return `${own}, ${old}, limit ${count(limit)} ms`;
}

/** Of what was measured. */
export function percent(rate: number): string {
  return `${(rate * 100).toFixed(1)} %`;
}

/** Of what was written. */
export function share(written: number): string {
  return `${Number((written * 100).toFixed(4))} %`;
}

export function millis(ms: number): string {
  return `${ms < 10 ? Number(ms.toFixed(1)) : count(Math.round(ms))} ms`;
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}

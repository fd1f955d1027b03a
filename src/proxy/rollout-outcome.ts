// What a rollout learns from a request that is over: whether the version it went to failed it, and how long it took.
import { CODES, type Code, reasonOf } from '../errors.ts';
import type { RequestExchange } from './exchange.ts';

/** Not the version's doing, whatever the status. */
const OWN_DOING: readonly Code[] = ['SLV_DRAINING', 'SLV_CONNECTION_LIMIT'];

/** Why Selvedge gave a request up that the service should have answered: also where the head had been sent already. */
const FAILURES: ReadonlySet<string> = new Set(
  (Object.keys(CODES) as Code[]).filter((code) => CODES[code].status >= 500 && !OWN_DOING.includes(code)).map(reasonOf),
);
const IGNORED: ReadonlySet<string> = new Set(OWN_DOING.map(reasonOf));

/** Counts a request once. `now`: performance.now(). */
export function recordOutcome(exchange: RequestExchange, now: number): void {
  const { version, target, reason } = exchange;
  if (version === null || target === null || target.rollout === null) return;
  exchange.version = null;
  const { rollout } = target.rollout;
  const durationMs = now - exchange.startedAt;
  if (reason === 'client_aborted') {
    // Nobody's failure. But who left after waiting longer than the limit for an answer has waited at least that long.
    const { p99Ms } = rollout.policy.abortOn;
    const waited = !exchange.res.headersSent && p99Ms !== null && durationMs > p99Ms;
    if (waited) rollout.record(version, false, durationMs, now);
    return;
  }
  if (reason !== null && IGNORED.has(reason)) return;
  const failed = exchange.res.statusCode >= 500 || (reason !== null && FAILURES.has(reason));
  rollout.record(version, failed, durationMs, now);
}

/** An upgraded connection has succeeded when it is open; how long it stays so says nothing. */
export function recordUpgrade(exchange: RequestExchange, now: number): void {
  const { version, target } = exchange;
  if (version === null || target === null || target.rollout === null) return;
  exchange.version = null;
  target.rollout.rollout.record(version, false, null, now);
}

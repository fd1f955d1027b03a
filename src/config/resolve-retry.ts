// Resolves how long the tries of a route may take and when there is another: timeouts, retries and hedges, which bound each other.
import { type HedgeOptions, type HedgePolicy, hedgePolicy, hedgeProblems } from '../policies/hedge.ts';
import {
  IDEMPOTENT_METHODS,
  NO_RETRY,
  type RetryOptions,
  type RetryPolicy,
  retryPolicy,
  retryProblems,
} from '../policies/retry.ts';
import type { CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Match, Timeouts } from './model.ts';
import { reportProblems } from './policy-problems.ts';
import { milliseconds } from './units.ts';

export function resolveTimeouts(timeout: Cursor<NonNullable<CompleteRoute['timeout']>>): Timeouts {
  const perTry = timeout.at('perTry').given();
  const request = timeout.at('request').filled();
  const requestMs = milliseconds(request);
  const perTryMs = perTry === null ? 0 : milliseconds(perTry);
  if (perTry !== null && requestMs > 0 && perTryMs > requestMs)
    perTry.error(`is longer than "request" (${request.value}), which would end every try before`);
  return { requestMs, perTryMs, idleMs: milliseconds(timeout.at('idle').filled()) };
}

/** Null: not given. */
export function resolveRetry(
  written: Cursor<NonNullable<CompleteRoute['retry']>> | null,
  timeouts: Timeouts,
): RetryPolicy | null {
  if (written === null) return null;
  if (written.value === false) return NO_RETRY;
  const retry = written as Cursor<Exclude<NonNullable<CompleteRoute['retry']>, false>>;
  const options = retry.value as RetryOptions;
  if (!reportProblems(retry, retryProblems(options))) return NO_RETRY;
  for (const method of retry.at('methods').filled().items()) {
    if (method.value === 'POST' || method.value === 'PATCH')
      method.warn(`the service may act twice on a ${method.value} whose first try failed after it had arrived`);
  }
  const on = retry.at('on').filled();
  for (const condition of on.items()) {
    if ((condition.value as unknown) === 'per-try-timeout' && leavesNoTime(timeouts))
      condition.warn('never happens: a try may take all of "timeout.request"; set "timeout.perTry" below it');
  }
  if (on.value.length === 0 && options.attempts !== 0)
    on.warn('names nothing, so nothing is tried again; "retry: false" says the same');
  return retryPolicy(options);
}

function leavesNoTime({ requestMs, perTryMs }: Timeouts): boolean {
  return perTryMs === 0 || perTryMs === requestMs;
}

/** Null: not given. */
export function resolveHedge(
  written: Cursor<NonNullable<CompleteRoute['hedge']>> | null,
  timeouts: Timeouts,
  matches: readonly Match[],
): HedgePolicy | false | null {
  if (written === null) return null;
  if (written.value === false) return false;
  const hedge = written as Cursor<Exclude<NonNullable<CompleteRoute['hedge']>, false>>;
  if (!reportProblems(hedge, hedgeProblems(hedge.value as HedgeOptions))) return null;
  const methods = new Set(matches.flatMap((match) => match.methods));
  const unsafe = [...methods].filter((method) => !(HEDGED as readonly string[]).includes(method));
  if (unsafe.length > 0)
    hedge.error(
      `would send ${unsafe.join(' and ')} twice; give ${unsafe.length > 1 ? 'these methods' : 'that method'} a route without "hedge"`,
    );
  const policy = hedgePolicy(hedge.value as HedgeOptions);
  const bounds = [
    ['timeout.request', timeouts.requestMs],
    ['timeout.perTry', timeouts.perTryMs],
  ] as const;
  const bound = bounds.find(([, ms]) => policy.afterMs !== null && ms > 0 && policy.afterMs >= ms);
  if (bound !== undefined) hedge.at('after').error(`never comes: "${bound[0]}" has ended the first try by then`);
  return policy;
}

/** Safe or idempotent: twice is as good as once (RFC 9110 section 9.2). */
const HEDGED = [...IDEMPOTENT_METHODS, 'TRACE', 'QUERY', 'PROPFIND', 'REPORT', 'SEARCH'] as const;

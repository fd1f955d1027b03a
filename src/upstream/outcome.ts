// How a try ended, as far as it says something about the endpoint: what outlier detection, latencies and resting go by.
import { TRANSPORT_CODES } from '../dispatch.ts';

/** A try that was given up by us: its response was not wanted any more. Says nothing about anybody. */
export const ABANDONED = new Error('another try is made instead');

/** The endpoint's fault; everything else (full pools, clients that leave, deadlines of callers) says nothing about it. */
const FAULTS: ReadonlySet<unknown> = new Set([
  TRANSPORT_CODES.connectRefused,
  TRANSPORT_CODES.connectTimeout,
  TRANSPORT_CODES.unreachable,
  TRANSPORT_CODES.dns,
  TRANSPORT_CODES.tls,
  TRANSPORT_CODES.reset,
  TRANSPORT_CODES.invalid,
  TRANSPORT_CODES.headersTooLarge,
  TRANSPORT_CODES.incomplete,
  'SLV_TRY_TIMEOUT',
  'SLV_UPSTREAM_TIMEOUT',
  'SLV_IDLE_TIMEOUT',
]);

/** Nothing could be connected to. With `unsent`, the request certainly never reached the service. */
const CONNECT_FAILURES: ReadonlySet<unknown> = new Set([
  TRANSPORT_CODES.connectRefused,
  TRANSPORT_CODES.connectTimeout,
  TRANSPORT_CODES.unreachable,
  TRANSPORT_CODES.dns,
  TRANSPORT_CODES.tls,
  TRANSPORT_CODES.reset,
]);

/** What the transport says of a failure beside its code (http1/transport-error.ts). */
export interface Failure extends Error {
  readonly code?: unknown;
  readonly unsent?: unknown;
  readonly reused?: unknown;
  readonly body?: unknown;
}

export function isFault({ code, reused }: Failure): boolean {
  // A kept connection that is closed as the request sets out: the race that every idle timeout has, not a failure.
  return reused !== true && FAULTS.has(code);
}

export function isConnectFailure({ code, unsent }: Failure): boolean {
  return unsent === true && CONNECT_FAILURES.has(code);
}

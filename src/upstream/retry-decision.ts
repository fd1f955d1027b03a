// What a failed try asks for: pure decisions that retry.ts carries out.

import type { DispatchController, ResponseHeaders } from '../dispatch.ts';
import { CODES, type Code, reasonOf } from '../errors.ts';
import { rawHeader } from '../http/raw-headers.ts';
import { retryAfterMs } from '../http/retry-after.ts';
import type { RetryPolicy } from '../policies/retry.ts';
import { type Failure, isConnectFailure } from './outcome.ts';

/** Why a try may be followed by another. */
export interface Cause {
  /** As in the access log's attempts: `upstream_refused`, `status_503`, `grpc_14`. Never more names than the config has. */
  readonly reason: string;
  /** The service cannot have acted on the request, so that any method may go again. */
  readonly untouched: boolean;
  /** At least so long must pass; what the service asked for. */
  readonly waitMs: number;
  /** A kept connection was closed as the request set out: going again costs nothing. */
  readonly free: boolean;
}

/** Null: whatever follows this failure is no retry. */
export function causeOfError(error: Failure, { conditions }: RetryPolicy): Cause | null {
  const { code, unsent, reused } = error;
  const reason = typeof code === 'string' && Object.hasOwn(CODES, code) ? reasonOf(code as Code) : '';
  if (reused === true) return { reason, untouched: unsent === true, waitMs: 0, free: true };
  if (isConnectFailure(error)) {
    const asked = conditions.has('connect-failure') || conditions.has('refused-stream');
    return asked ? { reason, untouched: true, waitMs: 0, free: false } : null;
  }
  if (code === 'SLV_UPSTREAM_RESET' || code === 'SLV_UPSTREAM_INCOMPLETE') {
    const asked = conditions.has('reset') || conditions.has('5xx');
    return asked ? { reason, untouched: false, waitMs: 0, free: false } : null;
  }
  if (code === 'SLV_TRY_TIMEOUT')
    return conditions.has('per-try-timeout') ? { reason, untouched: false, waitMs: 0, free: false } : null;
  return null;
}

export function causeOfResponse(
  status: number,
  controller: DispatchController,
  headers: ResponseHeaders,
  policy: RetryPolicy,
): Cause | null {
  const reason = reasonOfResponse(status, controller, headers, policy);
  if (reason === null) return null;
  const asked = headerOf(controller, headers, 'retry-after');
  const waitMs = asked === undefined ? 0 : (retryAfterMs(asked, Date.now()) ?? 0);
  return { reason, untouched: false, waitMs, free: false };
}

function reasonOfResponse(
  status: number,
  controller: DispatchController,
  headers: ResponseHeaders,
  { conditions, statuses, grpc }: RetryPolicy,
): string | null {
  const asked =
    (status >= 500 && conditions.has('5xx')) ||
    (status >= 502 && status <= 504 && conditions.has('gateway-error')) ||
    statuses.has(status);
  if (asked) return `status_${status}`;
  if (grpc.size === 0) return null;
  // A call that fails before its first message has its status in the head (gRPC over HTTP/2, "Trailers-Only").
  const code = headerOf(controller, headers, 'grpc-status');
  return code !== undefined && grpc.has(Number(code)) ? `grpc_${Number(code)}` : null;
}

function headerOf({ rawHeaders }: DispatchController, headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name];
  if (value !== undefined) return String(value);
  return rawHeaders === null ? undefined : rawHeader(rawHeaders, name);
}

/** Uniformly in [0, (2^n - 1) times the base), capped; `retry` counts from 1. */
export function backoffMs({ backoffMs: base, maxBackoffMs }: RetryPolicy, retry: number, random: () => number): number {
  return random() * Math.min(maxBackoffMs, (2 ** retry - 1) * base);
}

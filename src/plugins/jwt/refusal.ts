// Why a request is refused: exactly for the log and the metric, and for the client no more than RFC 6750 has a word for.
import { type Code, SelvedgeError } from '../../plugin.ts';

interface Answer {
  readonly code: Code;
  readonly status?: number;
  /** RFC 6750 section 3.1; null: a client that sent no token is told nothing but the scheme. */
  readonly error: 'invalid_request' | 'invalid_token' | 'insufficient_scope' | null;
}

const INVALID_REQUEST: Answer = { code: 'SLV_UNAUTHORIZED', status: 400, error: 'invalid_request' };
const INVALID_TOKEN: Answer = { code: 'SLV_UNAUTHORIZED', error: 'invalid_token' };
const INSUFFICIENT: Answer = { code: 'SLV_FORBIDDEN', error: 'insufficient_scope' };

const ANSWERS = {
  missing: { code: 'SLV_UNAUTHORIZED', error: null },
  repeated: INVALID_REQUEST,
  bad_credentials: INVALID_REQUEST,
  too_large: INVALID_TOKEN,
  malformed: INVALID_TOKEN,
  type: INVALID_TOKEN,
  critical_header: INVALID_TOKEN,
  algorithm: INVALID_TOKEN,
  issuer: INVALID_TOKEN,
  unknown_key: INVALID_TOKEN,
  signature: INVALID_TOKEN,
  audience: INVALID_TOKEN,
  expired: INVALID_TOKEN,
  not_yet_valid: INVALID_TOKEN,
  no_expiry: INVALID_TOKEN,
  scope: INSUFFICIENT,
  claim: INSUFFICIENT,
  keys_unavailable: { code: 'SLV_AUTH_UNAVAILABLE', error: null },
} as const satisfies Record<string, Answer>;

export type Reason = keyof typeof ANSWERS;

/** Seconds after which keys that were not to be had may be there. */
const RETRY_AFTER = 1;

export class Refusal {
  readonly reason: Reason;
  /** For the log. */
  readonly why: string;

  constructor(reason: Reason, why: string) {
    this.reason = reason;
    this.why = why;
  }

  /** `scopes`: those that the request needs, which RFC 6750 lets a client know. */
  error(scopes: readonly string[]): SelvedgeError {
    const { code, status, error }: Answer = ANSWERS[this.reason];
    const message = `jwt: ${this.why}`;
    if (code === 'SLV_AUTH_UNAVAILABLE') return new SelvedgeError(code, message, { retryAfter: RETRY_AFTER });
    const needed = this.reason === 'scope' ? `, scope="${scopes.join(' ')}"` : '';
    const challenge = `Bearer realm="selvedge"${error === null ? '' : `, error="${error}"`}${needed}`;
    return new SelvedgeError(code, message, { status, headers: { 'www-authenticate': challenge } });
  }
}

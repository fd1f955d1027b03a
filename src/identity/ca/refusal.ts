// How a CA service says no: problem+json (RFC 9457) with a code of the product and a reason of its own.
import type { FastifyReply } from 'fastify';
import { CODES, type Code } from '../../errors.ts';

export type RefusalReason =
  | 'credentials_missing'
  | 'token_invalid'
  | 'token_expired'
  | 'token_used'
  | 'certificate_invalid'
  | 'certificate_revoked'
  | 'csr_invalid'
  | 'request_invalid'
  | 'rate_limited'
  | 'not_found'
  | 'internal';

const MEANINGS: Readonly<Record<RefusalReason, readonly [code: Code, status: number, detail: string]>> = {
  credentials_missing: [
    'SLV_UNAUTHORIZED',
    401,
    'A join token (Authorization: Bearer), or a client certificate of this CA, is needed',
  ],
  token_invalid: ['SLV_UNAUTHORIZED', 401, 'The join token is not one of this CA'],
  token_expired: ['SLV_UNAUTHORIZED', 401, 'The join token has expired: make another one'],
  token_used: ['SLV_UNAUTHORIZED', 401, 'The join token has been used: each is good once'],
  certificate_invalid: [
    'SLV_UNAUTHORIZED',
    401,
    'Renewal needs a certificate of this CA that has not expired: begin again with a join token',
  ],
  certificate_revoked: [
    'SLV_UNAUTHORIZED',
    401,
    'The certificates of this identity were given up: begin again with a join token',
  ],
  csr_invalid: ['SLV_BAD_REQUEST', 400, 'The certificate signing request is not acceptable'],
  request_invalid: ['SLV_BAD_REQUEST', 400, 'The request is malformed'],
  rate_limited: ['SLV_RATE_LIMITED', 429, 'Too many requests: come again later'],
  not_found: ['SLV_ROUTE_NOT_FOUND', 404, 'There is GET /v1/bundle, GET /healthz and POST /v1/svid'],
  internal: ['SLV_INTERNAL', 500, 'The CA failed to process the request'],
};

export interface RefusalFacts {
  /** For the client, in place of the usual sentence. */
  readonly detail?: string;
  /** For the audit log only. */
  readonly because?: string;
  /** Name of its record. */
  readonly token?: string;
  readonly retryAfterMs?: number;
  readonly status?: number;
}

export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly reason: RefusalReason;
  readonly facts: RefusalFacts;

  constructor(reason: RefusalReason, facts: RefusalFacts = {}) {
    super(facts.detail ?? MEANINGS[reason][2]);
    this.reason = reason;
    this.facts = facts;
  }
}

export function sendRefusal(reply: FastifyReply, { reason, message, facts }: Refusal): FastifyReply {
  const [code, usual] = MEANINGS[reason];
  const status = facts.status ?? usual;
  if (facts.retryAfterMs !== undefined) reply.header('retry-after', String(Math.ceil(facts.retryAfterMs / 1_000)));
  if (status === 401) reply.header('www-authenticate', 'Bearer');
  return reply
    .code(status)
    .header('content-type', 'application/problem+json')
    .send(JSON.stringify({ type: 'about:blank', title: CODES[code].title, status, detail: message, code, reason }));
}

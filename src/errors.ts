// Every error that Selvedge itself answers or reports: one stable code each, with status, title and Proxy-Status type.

/**
 * What a code means to the outside. `title` is the RFC 9457 title and goes to clients, so it never names policy internals.
 * `proxyError` is the RFC 9209 section 2.3 error type that the `Proxy-Status` header carries.
 * `grpc` is the gRPC status number that a gRPC client receives instead of the HTTP status.
 */
interface CodeDefinition {
  readonly status: number;
  readonly title: string;
  readonly proxyError: string | null;
  readonly grpc: number;
}

function define(status: number, title: string, proxyError: string | null, grpc: number): CodeDefinition {
  return { status, title, proxyError, grpc };
}

/** The registry of codes. A code is an interface: documented in docs/errors.md, never renamed. */
export const CODES = {
  SLV_BAD_REQUEST: define(400, 'The request is malformed', 'http_request_error', 13),
  SLV_BAD_HOST: define(400, 'The Host header is missing, malformed or repeated', 'http_request_error', 13),
  SLV_REQUEST_INVALID: define(400, 'The request is not as the API describes it', 'http_request_error', 3),
  SLV_PROXY_HEADER: define(400, 'The PROXY header is missing or malformed', 'http_request_error', 13),
  SLV_BAD_PATH: define(400, 'The request path is not acceptable', 'http_request_error', 13),
  SLV_UNAUTHORIZED: define(401, 'Credentials are missing or not valid', 'http_request_denied', 16),
  SLV_FORBIDDEN: define(403, 'The request is not allowed', 'http_request_denied', 7),
  SLV_ORIGIN_DENIED: define(403, 'Pages of this origin may not call', 'http_request_denied', 7),
  SLV_EGRESS_DENIED: define(403, 'The call beyond the mesh is not allowed', 'http_request_denied', 7),
  SLV_EGRESS_SNI_MISMATCH: define(403, 'The tunnel carries something else than it may', 'http_request_denied', 7),
  SLV_ROUTE_NOT_FOUND: define(404, 'No route matches the request', 'destination_not_found', 12),
  SLV_SERVICE_NOT_FOUND: define(404, 'No service of the mesh has this name', 'destination_not_found', 12),
  SLV_OPERATION_NOT_FOUND: define(404, 'The API has no such path', 'http_request_denied', 12),
  SLV_METHOD_NOT_ALLOWED: define(405, 'The API has no such method here', 'http_request_denied', 12),
  SLV_REQUEST_TIMEOUT: define(408, 'The request arrived too slowly', 'http_request_error', 4),
  SLV_LENGTH_REQUIRED: define(411, 'The request needs a Content-Length', 'http_request_error', 13),
  SLV_BODY_TOO_LARGE: define(413, 'The request body is too large', 'http_request_error', 8),
  SLV_URL_TOO_LONG: define(414, 'The request target is too long', 'http_request_error', 8),
  SLV_UNSUPPORTED_MEDIA_TYPE: define(415, 'The media type of the body is not accepted', 'http_request_error', 13),
  SLV_EXPECTATION_FAILED: define(417, 'The expectation cannot be met', 'http_request_error', 13),
  SLV_MISDIRECTED: define(421, 'This connection does not serve the requested host', 'http_request_error', 13),
  SLV_UPGRADE_REQUIRED: define(426, 'The upgrade is not supported', 'http_upgrade_failed', 12),
  SLV_PEER_REFUSED: define(403, 'The peer is not who may connect', 'http_request_denied', 7),
  SLV_RATE_LIMITED: define(429, 'Too many requests', 'http_request_denied', 8),
  SLV_HEADERS_TOO_LARGE: define(431, 'The request headers are too large', 'http_request_error', 8),
  SLV_PLUGIN_FAILED: define(500, 'The gateway failed to process the request', 'proxy_internal_error', 13),
  SLV_INTERNAL: define(500, 'The gateway failed to process the request', 'proxy_internal_error', 13),
  SLV_BACKEND_INVALID: define(500, 'The route names a backend that does not exist', 'proxy_configuration_error', 13),
  SLV_METHOD_UNSUPPORTED: define(501, 'The method is not supported', 'http_request_error', 12),
  SLV_UPSTREAM_REFUSED: define(502, 'The service refused the connection', 'connection_refused', 14),
  SLV_UPSTREAM_UNREACHABLE: define(502, 'The service cannot be reached', 'destination_ip_unroutable', 14),
  SLV_UPSTREAM_DNS: define(502, 'The address of the service cannot be resolved', 'dns_error', 14),
  SLV_UPSTREAM_TLS: define(502, 'The TLS connection to the service failed', 'tls_protocol_error', 14),
  SLV_UPSTREAM_RESET: define(502, 'The service closed the connection', 'connection_terminated', 14),
  SLV_UPSTREAM_INVALID: define(502, 'The service sent a malformed response', 'http_protocol_error', 14),
  SLV_UPSTREAM_HEADERS_TOO_LARGE: define(
    502,
    'The service sent too large a response head',
    'http_response_header_section_size',
    14,
  ),
  SLV_UPSTREAM_INCOMPLETE: define(502, 'The service broke off its response', 'http_response_incomplete', 14),
  SLV_NO_ENDPOINT: define(503, 'No endpoint of the service is available', 'destination_unavailable', 14),
  SLV_POOL_FULL: define(503, 'The service has no connection to spare', 'connection_limit_reached', 14),
  SLV_REQUEST_LIMIT: define(503, 'The service has no capacity to spare', 'connection_limit_reached', 14),
  SLV_CONCURRENCY_LIMIT: define(503, 'The service has no capacity to spare', 'connection_limit_reached', 14),
  SLV_CIRCUIT_OPEN: define(503, 'The service is not available for the moment', 'destination_unavailable', 14),
  SLV_FAULT_INJECTED: define(503, 'The request was failed on purpose', 'proxy_internal_response', 14),
  SLV_OVERLOADED: define(503, 'The gateway has more to do than it can', 'proxy_internal_response', 14),
  SLV_VERIFICATION_LIMIT: define(503, 'Credentials cannot be verified for the moment', 'proxy_internal_response', 14),
  SLV_AUTH_UNAVAILABLE: define(503, 'The credentials cannot be checked for the moment', 'proxy_internal_error', 14),
  SLV_LIMITS_UNKNOWN: define(503, 'The limits of the client cannot be checked', 'proxy_internal_error', 14),
  SLV_DRAINING: define(503, 'The gateway is shutting down', 'proxy_internal_error', 14),
  SLV_CONNECTION_LIMIT: define(503, 'The listener has no connection to spare', 'connection_limit_reached', 14),
  SLV_CLIENT_CONNECTION_LIMIT: define(429, 'The client has too many connections', 'connection_limit_reached', 8),
  SLV_LOOP_DETECTED: define(508, 'The request goes round in circles', 'proxy_loop_detected', 13),
  SLV_CONNECT_TIMEOUT: define(504, 'Connecting to the service took too long', 'connection_timeout', 4),
  SLV_UPSTREAM_TIMEOUT: define(504, 'The service did not answer in time', 'http_response_timeout', 4),
  SLV_TRY_TIMEOUT: define(504, 'The service did not answer in time', 'http_response_timeout', 4),
  SLV_IDLE_TIMEOUT: define(504, 'The service stopped sending', 'connection_read_timeout', 4),
  SLV_DEADLINE_EXCEEDED: define(504, 'The deadline of the request has passed', 'http_response_timeout', 4),
  SLV_NOT_CACHED: define(504, 'No stored answer can be used', null, 14),
  SLV_HEDGE_LOST: define(499, 'The other try answered first', null, 1),
  SLV_CLIENT_ABORTED: define(499, 'The client went away', null, 1),
} as const satisfies Record<string, CodeDefinition>;

export type Code = keyof typeof CODES;

/** Further facts of one error. `detail` reaches clients; `cause` and `fields` reach logs only. */
export interface ErrorFacts {
  /** A sentence for the client beyond the title; never names policy internals or addresses. */
  readonly detail?: string;
  /** What exactly is wrong with the request, for the client; never repeats what it sent. */
  readonly errors?: readonly Readonly<Record<string, string>>[];
  /** Seconds for a Retry-After header. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
  /** Overrides the status of the code (a plugin that answers its own 4xx). */
  readonly status?: number;
  /** Further response headers, lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Somebody else's answer to the client, given instead of the problem document; not to gRPC clients, who get the status of the code. */
  readonly answer?: { readonly headers: Readonly<Record<string, string | string[]>>; readonly body: Buffer };
}

/** An error with a stable SLV_ code. `message` goes to the log; clients get the code's title and `detail`. */
export class SelvedgeError extends Error {
  override readonly name = 'SelvedgeError';
  readonly code: Code;
  readonly statusCode: number;
  readonly facts: ErrorFacts;

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.statusCode = facts.status ?? CODES[code].status;
    this.facts = facts;
  }

  /** The one reason that access log and metrics carry: the code without its prefix, lower-case. */
  get reason(): string {
    return reasonOf(this.code);
  }
}

const reasons = new Map<Code, string>(
  (Object.keys(CODES) as Code[]).map((code) => [code, code.slice('SLV_'.length).toLowerCase()]),
);

/** `SLV_ROUTE_NOT_FOUND` → `route_not_found`. */
export function reasonOf(code: Code): string {
  return reasons.get(code) as string;
}

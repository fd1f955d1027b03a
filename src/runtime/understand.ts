// First of all a request's head is read: what it asks for, whose client it is, and what hops before this one say about it.
import { SelvedgeError } from '../errors.ts';
import { clientOf } from '../gateway/trust.ts';
import { type Authority, parseAuthority } from '../http/authority.ts';
import { parseGrpcTimeout } from '../http/grpc-timeout.ts';
import { normalizeHost, normalizePath, splitTarget } from '../http/path.ts';
import type { RequestExchange } from '../proxy/exchange.ts';
import { HOP_PATH, passThrough } from '../proxy/hop-path.ts';
import { sanitiseHeaders } from '../proxy/request-headers.ts';
import { calledHost } from '../routing/address-book.ts';
import type { ListenerPlan } from './listener-plan.ts';
import { type Connection, EXPECT_CONTINUE } from './listener-spec.ts';

/** Notes target, host, client and framing in the exchange. CONNECT has `understandTunnel`. Returns why it is refused, or null. */
export function understand(exchange: RequestExchange, plan: ListenerPlan): SelvedgeError | null {
  const { req, connection, role } = exchange;
  const target = splitTarget(req.url as string);
  const headers = req.headers;
  const source = clientOf(plan.trust, connection, headers);
  exchange.clientAddress = source.address;
  exchange.trusted = source.trusted;
  exchange.contentLength = headers['content-length'] === undefined ? null : Number(headers['content-length']);
  exchange.hasBody = headers['transfer-encoding'] !== undefined || (exchange.contentLength ?? 0) > 0;
  exchange.bodyLimit = connection.listener.limits.bodyBytes;
  exchange.expectContinue = (req as { [EXPECT_CONTINUE]?: boolean })[EXPECT_CONTINUE] === true;
  // Until it is normalised, log and plugins of a refusal see it as it came; nothing is matched or sent by it.
  exchange.path = target?.path ?? (req.url as string);
  exchange.url = exchange.path;
  if (target === null) return new SelvedgeError('SLV_BAD_PATH', 'the request target is malformed');
  const { host, port, raw } = authorityOf(connection, target.authority ?? headers.host ?? '');
  exchange.authority = raw;
  exchange.port = port;
  if (host === null) return new SelvedgeError('SLV_BAD_HOST', 'the Host header is malformed');
  if (target.authority !== null && headers.host !== undefined && role !== 'outbound') {
    if (normalizeHost(headers.host) !== host)
      return new SelvedgeError('SLV_BAD_HOST', 'the Host header contradicts the request target');
  }
  exchange.host = plan.fixedHost ?? (plan.addresses === null ? host : calledHost(plan.addresses, host, port));
  const normal = normalizePath(target.path);
  if (normal === null) return new SelvedgeError('SLV_BAD_PATH', 'the request path is malformed');
  exchange.path = normal.path;
  exchange.query = target.query;
  exchange.url = target.query === '' ? normal.path : `${normal.path}?${target.query}`;
  exchange.encodedSlash = normal.encodedSlash;
  sanitiseHeaders(exchange);
  return travellingFacts(exchange);
}

function authorityOf(connection: Connection, raw: string): Authority {
  const { authority } = connection;
  if (authority !== undefined && authority.raw === raw) return authority;
  connection.authority = parseAuthority(raw);
  return connection.authority;
}

/** What the caller's side says about the request: its deadline and, between hops, the endpoint it chose. */
function travellingFacts(exchange: RequestExchange): SelvedgeError | null {
  const { headers } = exchange.req;
  const left = headers['x-selvedge-timeout-ms'];
  if (left !== undefined) {
    const ms = Number(left);
    if (Number.isFinite(ms)) exchange.deadlineAt = exchange.startedAt + Math.max(0, ms);
    delete headers['x-selvedge-timeout-ms'];
  }
  const grpc = headers['grpc-timeout'];
  if (grpc !== undefined) {
    const ms = parseGrpcTimeout(String(grpc));
    exchange.grpcTimeout = ms !== null;
    if (ms !== null) exchange.deadlineAt = Math.min(exchange.deadlineAt, exchange.startedAt + ms);
  }
  if (exchange.role === 'gateway') return overdue(exchange);
  const passed = headers[HOP_PATH];
  const path = passThrough(passed, exchange.role, exchange.owner);
  // To delete what is not there costs as much as to delete.
  if (passed !== undefined) delete headers[HOP_PATH];
  if (typeof path !== 'string') return path;
  exchange.hopPath = path;
  if (exchange.role === 'inbound') {
    const endpoint = headers['x-selvedge-endpoint'];
    if (endpoint !== undefined) {
      if (typeof endpoint === 'string') exchange.preferredEndpoint = endpoint;
      delete headers['x-selvedge-endpoint'];
    }
    const attempt = headers['x-selvedge-attempt'];
    if (attempt !== undefined) {
      const tries = Number(attempt);
      if (Number.isInteger(tries) && tries > 0) exchange.outerAttempt = tries;
      delete headers['x-selvedge-attempt'];
    }
  }
  return overdue(exchange);
}

function overdue(exchange: RequestExchange): SelvedgeError | null {
  return exchange.deadlineAt <= exchange.startedAt
    ? new SelvedgeError('SLV_DEADLINE_EXCEEDED', 'the deadline of the request had passed when it arrived')
    : null;
}

// The header lines that go upstream: the client's without hop-by-hop fields, the gateway's forwarding fields, one Host.
import { connectionTokens, HOP_BY_HOP } from '../http/hop-by-hop.ts';
import type { RequestExchange } from './exchange.ts';
import { HOP_PATH } from './hop-path.ts';
import { PROXY_NAME } from './problem.ts';

export type Headers = Record<string, string | string[] | undefined>;

/** Fields that `upstreamHeaders` writes itself or that framing decides. */
const OWN: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  'host',
  'content-length',
  'expect',
  'te',
  'via',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-forwarded-port',
]);

/**
 * Before any plugin runs: what `Connection` names goes, and so does everything by which a stranger could pass for the gateway.
 * Later changes are the gateway's own, and no client header can name those away.
 */
export function sanitiseHeaders(exchange: RequestExchange): void {
  const headers = exchange.req.headers as Headers;
  const { connection } = headers;
  if (connection !== undefined) {
    for (const name of connectionTokens(String(connection))) delete headers[name];
  }
  const inbound = exchange.role === 'inbound';
  const gateway = exchange.role === 'gateway';
  for (const name in headers) {
    if (name.charCodeAt(0) === 120 /* x */) {
      if (name.includes('_') && isReserved(name.replaceAll('_', '-'))) delete headers[name];
      else if (inbound) continue;
      else if (name.startsWith('x-selvedge-')) {
        if (gateway || (name !== 'x-selvedge-timeout-ms' && name !== HOP_PATH)) delete headers[name];
      } else if (name === 'x-forwarded-client-cert' && !exchange.trusted) delete headers[name];
    } else if (name === 'forwarded' && gateway && !exchange.trusted) delete headers[name];
  }
}

/** To CGI, WSGI and their like `x_forwarded_for` is the same name as `x-forwarded-for`; nobody of ours writes it so. */
function isReserved(name: string): boolean {
  return name.startsWith('x-selvedge-') || name === 'x-forwarded-client-cert' || OWN.has(name);
}

/** Flat list, name and value in turn, without framing: see DispatchOptions.headers. */
export function upstreamHeaders(exchange: RequestExchange, headers: Headers, host: string): string[] {
  // An HTTP/1.0 request may have none; the transport then names the endpoint.
  const out: string[] = host === '' ? [] : ['host', host];
  for (const name in headers) {
    if (OWN.has(name)) continue;
    const value = headers[name];
    if (value === undefined) continue;
    if (typeof value === 'string') out.push(name, value);
    else if (Array.isArray(value)) for (const item of value) out.push(name, item);
    else out.push(name, String(value));
  }
  if (headers.te !== undefined && /(?:^|,)\s*trailers\s*(?:,|;|$)/i.test(String(headers.te)))
    out.push('te', 'trailers');
  pushForwarding(exchange, headers, out);
  return out;
}

/** X-Forwarded-* are the edge's to say; between hops they pass as they are. `Via` grows at every hop (RFC 9110 section 7.6.3). */
function pushForwarding(exchange: RequestExchange, headers: Headers, out: string[]): void {
  const { connection, trusted } = exchange;
  const proto = headers['x-forwarded-proto'];
  const from = headers['x-forwarded-for'];
  if (exchange.role === 'gateway') {
    const peer = connection.remoteAddress;
    out.push('x-forwarded-for', trusted && from !== undefined ? `${String(from)}, ${peer}` : peer);
    out.push('x-forwarded-proto', trusted && proto !== undefined ? String(proto) : exchange.scheme);
    const host = headers['x-forwarded-host'];
    const asked = trusted && host !== undefined ? String(host) : exchange.authority;
    if (asked !== '') out.push('x-forwarded-host', asked);
    const port = headers['x-forwarded-port'];
    out.push('x-forwarded-port', trusted && port !== undefined ? String(port) : portOf(exchange));
  } else {
    for (const name of FORWARDED) {
      const value = headers[name];
      if (value !== undefined) out.push(name, String(value));
    }
  }
  const via = headers.via;
  const own = exchange.req.httpVersionMinor === 0 && exchange.req.httpVersionMajor === 1 ? VIA_10 : VIA_11;
  out.push('via', via === undefined ? own : `${String(via)}, ${own}`);
}

const FORWARDED = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port'] as const;
const VIA_11 = `1.1 ${PROXY_NAME}`;
const VIA_10 = `1.0 ${PROXY_NAME}`;

/** The port that the client asked for: from its Host, else the one that it reached. */
function portOf({ port, connection }: RequestExchange): string {
  return port ?? String(connection.localPort);
}

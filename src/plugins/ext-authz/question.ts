// What the authorization service is told about a request: in Envoy's manner, or in that of Traefik and nginx.
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { HOP_BY_HOP } from '../../http/hop-by-hop.ts';
import { ANY, nameTest } from './header-names.ts';
import type { ExtAuthzOptions } from './options.ts';

/** Services that are being asked about this request already, between hops. */
export const ASKING = 'x-selvedge-ext-authz';

/**
 * Headers that are ours to write, that belong to the body, or that could make an answer mean something else: a conditional or partial
 * request is answered 304 or 206, and who is asked in gRPC refuses with status 200.
 */
const NEVER =
  /^(?:host|content-length|content-encoding|content-type|expect|te|trailer|via|forwarded|range|if-.*|accept-encoding|proxy-.*|x-forwarded-(?:for|host|method|port|proto|uri)|x-original-.*|x-http-method.*|x-selvedge-.*)$/;
/** Of the trace that the request belongs to. */
const TRACE = ['traceparent', 'tracestate', 'b3'];

export interface Question {
  readonly method: string;
  readonly path: string;
  /** Name and value in turn. */
  readonly headers: string[];
  /** Equal for requests about which the service is told the same, and no secret; empty without `cache`. */
  readonly key: string;
}

/** How questions are made of requests. `body`: one goes along. */
export function asker(options: ExtAuthzOptions): (request: FastifyRequest, body: boolean) => Question {
  const { service, protocol, pathPrefix, path, host, allowedHeaders } = options;
  const envoy = protocol === 'envoy';
  const cached = options.cache !== undefined;
  const all = allowedHeaders === undefined && !envoy;
  const allowed = all ? ANY : nameTest(['authorization', ...(allowedHeaders ?? [])]);

  return (request, body) => {
    const { headers, selvedge } = request;
    const { method } = request;
    const uri = selvedge.query === '' ? selvedge.path : `${selvedge.path}?${selvedge.query}`;
    const asked = selvedge.port === null ? selvedge.host : `${selvedge.host}:${selvedge.port}`;
    const said = (name: string, own: string): string => {
      const value = selvedge.trusted ? headers[name] : undefined;
      return typeof value === 'string' ? value : own;
    };
    const told = ['x-forwarded-for', selvedge.clientAddress];
    told.push('x-forwarded-proto', said('x-forwarded-proto', selvedge.scheme));
    told.push('x-forwarded-host', said('x-forwarded-host', asked));
    told.push('x-forwarded-method', method, 'x-forwarded-uri', uri);
    for (const name in headers) {
      if (!allowed(name) || HOP_BY_HOP.has(name) || NEVER.test(name) || TRACE.includes(name)) continue;
      for (const value of [headers[name] ?? []].flat()) told.push(name, value);
    }
    const key = cached
      ? createHash('sha256')
          .update(JSON.stringify([method, asked, ...told]))
          .digest('base64')
      : '';
    const type = headers['content-type'];
    if (body && type !== undefined && !/^application\/grpc/i.test(type)) told.push('content-type', type);
    for (const name of TRACE) {
      const value = headers[name];
      if (typeof value === 'string') told.push(name, value);
    }
    const before = headers[ASKING];
    told.push(ASKING, before === undefined ? service : `${String(before)}, ${service}`);
    return {
      method: envoy && method !== 'CONNECT' ? method : body ? 'POST' : 'GET',
      path: envoy ? `${pathPrefix}${uri}` : path,
      headers: ['host', host ?? (envoy && asked !== '' ? asked : service), ...told],
      key,
    };
  };
}

/** Whether the question whether this request may pass would be asked on behalf of itself. */
export function goesRound({ headers }: FastifyRequest, service: string): boolean {
  const asking = headers[ASKING];
  return asking !== undefined && String(asking).split(', ').includes(service);
}

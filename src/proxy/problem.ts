// How Selvedge itself answers: problem+json (RFC 9457) with Proxy-Status (RFC 9209), or the mapped gRPC status for a gRPC client.
import type { FastifyReply } from 'fastify';
import { CODES, type Code, SelvedgeError } from '../errors.ts';
import type { ErrorPages, RenderedPage } from '../http/error-pages.ts';
import type { RequestExchange } from './exchange.ts';
import { releaseBody } from './linger.ts';

/** The name of this proxy in `Proxy-Status` and `Via`. */
export const PROXY_NAME = 'selvedge';

/** What described the service's answer, where one had begun: it is not true of the problem. */
const OF_THE_ANSWER = [
  'content-encoding',
  'content-language',
  'content-location',
  'content-range',
  'content-md5',
  'content-digest',
  'repr-digest',
  'digest',
  'accept-ranges',
  'age',
  'etag',
  'expires',
  'last-modified',
  'trailer',
];

/** Codes for errors that other people's plugins throw with a `statusCode` of their own. */
const CODE_BY_STATUS = {
  400: 'SLV_BAD_REQUEST',
  401: 'SLV_UNAUTHORIZED',
  403: 'SLV_FORBIDDEN',
  404: 'SLV_ROUTE_NOT_FOUND',
  408: 'SLV_REQUEST_TIMEOUT',
  411: 'SLV_LENGTH_REQUIRED',
  413: 'SLV_BODY_TOO_LARGE',
  429: 'SLV_RATE_LIMITED',
} as const;

/** Any error that reached the chain, as one of ours. A 4xx `statusCode` of a plugin is kept; everything else is its failure. */
export function asSelvedgeError(error: unknown, plugin: string | null): SelvedgeError {
  if (isSelvedgeError(error)) return error;
  const thrown = error instanceof Error ? error : new Error(String(error));
  const status = (thrown as { statusCode?: unknown }).statusCode;
  if (typeof status === 'number' && status >= 400 && status < 500) {
    const code = CODE_BY_STATUS[status as keyof typeof CODE_BY_STATUS] ?? 'SLV_BAD_REQUEST';
    return new SelvedgeError(code, thrown.message, { status, cause: thrown, detail: thrown.message });
  }
  const by = plugin === null ? '' : `plugin "${plugin}": `;
  return new SelvedgeError('SLV_PLUGIN_FAILED', `${by}${thrown.message}`, { cause: thrown });
}

/** What the upstream side reported: a transport's code, else somebody's failure there. */
export function asUpstreamError(error: Error): SelvedgeError {
  if (isSelvedgeError(error)) return error;
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && code in CODES)
    return new SelvedgeError(code as Code, error.message, { cause: error });
  return asSelvedgeError(error, 'upstream');
}

/** By its shape: a plugin may have loaded a copy of this package that is not ours. */
function isSelvedgeError(error: unknown): error is SelvedgeError {
  if (error instanceof SelvedgeError) return true;
  const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
  return name === 'SelvedgeError' && typeof code === 'string' && code in CODES;
}

/** Answers the request with the error and leaves its reason on the exchange. */
export function sendProblem(reply: FastifyReply, exchange: RequestExchange, error: SelvedgeError): void {
  const { code, facts, statusCode } = error;
  exchange.reason = error.reason;
  releaseBody(exchange, reply);
  for (const name of OF_THE_ANSWER) reply.removeHeader(name);
  const definition = CODES[code];
  if (facts.headers !== undefined) reply.headers(facts.headers);
  if (facts.retryAfter !== undefined) reply.header('retry-after', String(facts.retryAfter));
  if (definition.proxyError !== null) reply.header('proxy-status', `${PROXY_NAME}; error=${definition.proxyError}`);
  if (isGrpc(exchange.req.headers['content-type'])) {
    reply.code(200).header('content-type', 'application/grpc');
    reply.header('grpc-status', String(definition.grpc)).header('grpc-message', encodeGrpcMessage(definition.title));
    reply.send();
    return;
  }
  if (facts.answer !== undefined) {
    const { headers, body } = facts.answer;
    reply.code(statusCode).headers(headers);
    reply.send(body.length === 0 ? undefined : body);
    return;
  }
  const { contentType, body } = errorBody(error, exchange.id, exchange.connection.listener.errorPages, exchange.req);
  reply.code(statusCode).header('content-type', contentType);
  reply.header('cache-control', 'no-store');
  reply.send(body);
}

/** The problem document, or the page of the gateway that the client would rather have. */
export function errorBody(
  error: SelvedgeError,
  requestId: string,
  pages: ErrorPages | undefined,
  { headers }: { readonly headers: { readonly accept?: string } },
): RenderedPage {
  const { code, facts, statusCode: status } = error;
  const page = pages?.render(
    { status, code, title: CODES[code].title, detail: facts.detail ?? '', requestId },
    headers.accept,
  );
  return page ?? { contentType: 'application/problem+json', body: Buffer.from(problemBody(error, requestId)) };
}

/** The JSON text of a problem. Members in a fixed order; `detail` and `errors` only when there are some. */
export function problemBody(error: SelvedgeError, requestId: string): string {
  const { code, facts, statusCode } = error;
  const detail = facts.detail === undefined ? {} : { detail: facts.detail };
  const errors = facts.errors === undefined ? {} : { errors: facts.errors };
  return JSON.stringify({ title: CODES[code].title, status: statusCode, code, ...detail, ...errors, requestId });
}

/** True for `application/grpc` and its `+proto`, `+json` kinds; not for gRPC-Web. */
export function isGrpc(contentType: string | undefined): boolean {
  if (contentType === undefined || !contentType.startsWith('application/grpc')) return false;
  const next = contentType.charAt('application/grpc'.length);
  return next === '' || next === '+' || next === ';';
}

/** Percent-encoding of grpc-message: printable ASCII but `%` stays. */
function encodeGrpcMessage(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]/g, (char) => encodeURIComponent(char));
}

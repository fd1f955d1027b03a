// The spans of one sampled request: its own from head to end, and one for every try to have it answered.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Attempt, AttemptWatch, Outgoing } from '../../plugin.ts';
import { finalStatus } from '../final-status.ts';
import { newSpanId } from './ids.ts';
import type { Begun, Propagation } from './propagation.ts';
import { Attributes, CLIENT, SERVER, spanJson } from './span.ts';

/** Where finished spans go. */
export type SpanSink = (json: string) => void;

/** What the spans of one chain have in common. */
export interface TraceSettings {
  readonly propagation: Propagation;
  readonly sink: SpanSink;
}

/** The process clock may go this far from the wall clock: it does not follow when that is set, or when the machine sleeps. */
const MAX_DRIFT_MS = 5;
let epoch = performance.timeOrigin;

/** Milliseconds since the epoch at which the process clock was 0. */
function epochMs(): number {
  const drift = Date.now() - performance.now() - epoch;
  if (Math.abs(drift) > MAX_DRIFT_MS) epoch += drift;
  return epoch;
}

export class RequestTrace {
  readonly begun: Begun;
  readonly settings: TraceSettings;
  /** Taken once, so that the spans of a request lie inside one another even where the wall clock is set meanwhile. */
  readonly epochMs: number;

  constructor(begun: Begun, settings: TraceSettings) {
    this.begun = begun;
    this.settings = settings;
    this.epochMs = epochMs();
  }

  attempt(request: FastifyRequest, outgoing: Outgoing): AttemptWatch {
    return new AttemptSpan(this, request, outgoing);
  }

  end(request: FastifyRequest, reply: FastifyReply): void {
    const { selvedge: exchange, method, headers, raw } = request;
    const { startedAt, reason } = exchange;
    const { traceId, spanId, parentSpanId, traceState } = this.begun;
    const status = finalStatus(request, reply);
    const left = reason === 'client_aborted';
    // That the client left is not the server's failure, and a refusal (4xx) is none either.
    const failed = status >= 500 || (reason !== null && !left && status < 400);
    const route = exchange.route?.name;
    const attributes = new Attributes();
    attributes.text('http.request.method', methodOf(method));
    if (!KNOWN_METHODS.has(method)) attributes.text('http.request.method_original', method);
    attributes
      .path('url.path', exchange.path)
      .text('url.scheme', exchange.scheme)
      .text('server.address', exchange.host)
      .text('client.address', exchange.clientAddress)
      .text('http.route', route)
      .text('network.protocol.version', raw.httpVersion)
      .text('user_agent.original', headers['user-agent'])
      .text('selvedge.role', exchange.role)
      .text('selvedge.owner', exchange.owner)
      .text('selvedge.listener', exchange.listener)
      .text('selvedge.request_id', exchange.id)
      .text('selvedge.service', exchange.service)
      .text('selvedge.subset', exchange.subset)
      .text('selvedge.endpoint', exchange.endpoint)
      .text('selvedge.reason', reason)
      .text('selvedge.peer', exchange.peer?.id)
      .integer('selvedge.attempts', exchange.attempts.length);
    // 499 was never sent.
    if (!(left && status === 499)) attributes.integer('http.response.status_code', status);
    if (failed) attributes.text('error.type', reason ?? String(status));
    this.settings.sink(
      spanJson(
        {
          traceId,
          spanId,
          parentSpanId,
          traceState,
          name: nameOf(method, route),
          kind: SERVER,
          startMs: this.epochMs + startedAt,
          endMs: this.epochMs + performance.now(),
          failed,
        },
        attributes,
      ),
    );
  }
}

/** One try. Its span is the parent of whatever the service behind makes of it. */
class AttemptSpan implements AttemptWatch {
  readonly headers: readonly string[];
  readonly #trace: RequestTrace;
  readonly #request: FastifyRequest;
  readonly #outgoing: Outgoing;
  readonly #number: number;
  readonly #spanId = newSpanId();
  readonly #startMs: number;

  constructor(trace: RequestTrace, request: FastifyRequest, { method, path, origin }: Outgoing) {
    this.#trace = trace;
    this.#request = request;
    // The options of the request change from try to try.
    this.#outgoing = { method, path, origin };
    this.#number = request.selvedge.attempts.length;
    this.#startMs = trace.epochMs + performance.now();
    const { traceId } = trace.begun;
    this.headers = trace.settings.propagation.lines({ traceId, spanId: this.#spanId, sampled: true });
  }

  end({ endpoint, outcome, status }: Attempt): void {
    const { method, path, origin } = this.#outgoing;
    const { traceId, spanId, traceState } = this.#trace.begun;
    const { selvedge: exchange } = this.#request;
    const abandoned = outcome === 'pending';
    // Of an answer the client's side of a span counts 4xx as failures too.
    const failed = status >= 400 || (outcome !== 'ok' && !abandoned);
    const query = path.indexOf('?');
    const bare = query < 0 ? path : path.slice(0, query);
    const colon = origin.lastIndexOf(':');
    const attributes = new Attributes();
    attributes.text('http.request.method', methodOf(method));
    if (!KNOWN_METHODS.has(method)) attributes.text('http.request.method_original', method);
    attributes
      .path('url.full', `${origin}${bare}`)
      .text('server.address', hostOf(origin, colon))
      .integer('server.port', Number(origin.slice(colon + 1)))
      .text('selvedge.role', exchange.role)
      .text('selvedge.owner', exchange.owner)
      .text('selvedge.service', exchange.service)
      .text('selvedge.subset', exchange.subset)
      .text('selvedge.endpoint', endpoint)
      .text('selvedge.outcome', abandoned ? 'abandoned' : outcome)
      .integer('selvedge.attempt', this.#number);
    if (this.#number > 1) attributes.integer('http.request.resend_count', this.#number - 1);
    if (status > 0) attributes.integer('http.response.status_code', status);
    if (failed) attributes.text('error.type', outcome !== 'ok' && !abandoned ? outcome : String(status));
    this.#trace.settings.sink(
      spanJson(
        {
          traceId,
          spanId: this.#spanId,
          parentSpanId: spanId,
          traceState,
          name: methodOf(method) === OTHER ? 'HTTP' : method,
          kind: CLIENT,
          startMs: this.#startMs,
          endMs: this.#trace.epochMs + performance.now(),
          failed,
        },
        attributes,
      ),
    );
  }
}

/** What instrumentation knows; others must not become span names or values without bound. */
const KNOWN_METHODS: ReadonlySet<string> = new Set([
  ...['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE'],
]);
const OTHER = '_OTHER';

function methodOf(method: string): string {
  return KNOWN_METHODS.has(method) ? method : OTHER;
}

/** Low in cardinality: method and route, never the path. */
function nameOf(method: string, route: string | undefined): string {
  const known = KNOWN_METHODS.has(method) ? method : 'HTTP';
  return route === undefined ? known : `${known} ${route}`;
}

/** Of `http://host:port`, IPv6 without its brackets. */
function hostOf(origin: string, colon: number): string {
  const host = origin.slice(origin.indexOf('//') + 2, colon);
  return host.startsWith('[') ? host.slice(1, -1) : host;
}

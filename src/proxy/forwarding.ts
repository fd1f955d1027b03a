// One forwarded request: the outermost handler of the upstream stack, and the policy record that travels with it.
// It sends the request when its turn of the event loop ends, and streams the response back.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { HeaderChanges, Timeouts } from '../config/model.ts';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import { applyToReply, applyToRequest } from '../http/header-changes.ts';
import type { Attempt, AttemptWatch, Outgoing } from '../plugin.ts';
import type { HedgePolicy } from '../policies/hedge.ts';
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type { RetryPolicy } from '../policies/retry.ts';
import { rewritePath } from '../routing/rewrite.ts';
import type { Call } from '../upstream/call.ts';
import type { Caller } from '../upstream/caller.ts';
import type { Endpoint } from '../upstream/endpoint.ts';
import type { Service } from '../upstream/service.ts';
import { BodyWatch } from './body-watch.ts';
import type { RequestExchange } from './exchange.ts';
import { sendInformational } from './informational.ts';
import { cutRest, releaseBody } from './linger.ts';
import { requestPolicies } from './policies.ts';
import { asUpstreamError } from './problem.ts';
import { upstreamHeaders } from './request-headers.ts';
import { requestKey } from './request-key.ts';
import { copyResponseHeaders, passingTrailers } from './response-headers.ts';
import { recordUpgrade } from './rollout-outcome.ts';
import type { RouteTarget, TargetBackend } from './target.ts';
import { atEndOfTurn, type TurnWork } from './turn.ts';
import { openTunnel } from './upgrade.ts';
import { UpstreamBody } from './upstream-body.ts';

export class Forwarding implements DispatchHandler, Call, TurnWork {
  readonly exchange: RequestExchange;
  readonly reply: FastifyReply;
  readonly target: RouteTarget;
  readonly backend: TargetBackend;
  readonly service: Service;
  readonly subset: string | null;
  readonly timeouts: Timeouts;
  readonly deadlineAt: number;
  readonly preferred: string | null;
  readonly internal: boolean;
  readonly caller: Caller | null;
  readonly retry: RetryPolicy;
  readonly hedge: HedgePolicy | null;
  readonly outlierDetection: OutlierPolicy | null;
  readonly outerAttempt: number;
  readonly hashKey: number;
  readonly sticky: Endpoint | null;
  readonly grpcTimeout: boolean;
  readonly hopPath: string | null;
  waitUntil = 0;
  readonly tried: Endpoint[] = [];
  readonly #rawOnly: boolean;
  /** Until it is dispatched. */
  #options: DispatchOptions | null = null;
  /** The one whose answer this is, once there is one. */
  #endpoint: Endpoint | null = null;
  #status = 0;
  #headers: ResponseHeaders = NO_HEADERS;
  /** Header lines as received; null where somebody on the upstream side may have changed `#headers`. */
  #rawHeaders: string[] | null = null;
  #trailers: [string, string][] | null = null;
  /** The response ended in the turn of the event loop that brought its head. */
  #complete = false;
  /** Response data that arrived before it was decided how to send it; what one turn of the event loop read. */
  #early: Buffer[] | Buffer | null = null;
  #body: UpstreamBody | null = null;
  #watch: BodyWatch | null = null;
  #phase: 'waiting' | 'deciding' | 'streaming' | 'over' = 'waiting';

  constructor(exchange: RequestExchange, reply: FastifyReply, target: RouteTarget, backend: TargetBackend) {
    const { service, config } = backend;
    exchange.service = config.service;
    exchange.subset = config.subset;
    if (service === null) {
      throw new SelvedgeError(
        'SLV_BACKEND_INVALID',
        `route "${target.route.name}" names service "${config.service}", which does not exist`,
      );
    }
    this.exchange = exchange;
    this.reply = reply;
    this.target = target;
    this.backend = backend;
    this.service = service;
    this.subset = config.subset;
    this.timeouts = target.route.timeouts;
    this.deadlineAt = exchange.deadlineAt;
    this.preferred = exchange.preferredEndpoint;
    this.internal = exchange.role !== 'gateway' && exchange.wayOut === null;
    this.caller = target.caller;
    const { retry, hedge, outlierDetection, retriesHere } = requestPolicies(target.policies, exchange.policies);
    this.retry = retry;
    this.hedge = hedge;
    this.outlierDetection = outlierDetection === undefined ? service.outlierDetection : outlierDetection;
    this.outerAttempt = retriesHere ? 0 : exchange.outerAttempt;
    this.grpcTimeout = exchange.grpcTimeout;
    this.hopPath = exchange.hopPath;
    this.hashKey = service.hashBy === null ? 0 : requestKey(service.hashBy, exchange, service.random);
    this.sticky = backend.session?.endpointFor(exchange) ?? null;
    this.#rawOnly = !target.chain.intercepts;
  }

  get attempts() {
    return this.exchange.attempts;
  }

  onEndpoint(endpoint: Endpoint): void {
    this.exchange.endpoint = endpoint.address;
    this.#endpoint = endpoint;
  }

  observe(attempt: Attempt, outgoing: Outgoing): AttemptWatch | null {
    const { observe } = this.target.chain;
    return observe === null ? null : observe(this.reply.request, attempt, outgoing);
  }

  start(request: FastifyRequest): void {
    const { exchange, backend, target } = this;
    if (exchange.aborted) return;
    const rewrite = backend.config.rewrite ?? target.route.rewrite;
    const prefix = exchange.route?.matchedPrefix ?? '';
    const path = rewrite === null ? exchange.path : rewritePath(rewrite, exchange.path, prefix);
    const host = rewrite?.host ?? exchange.authority;
    const { headers } = request;
    for (const changes of backend.requestHeaders) applyToRequest(changes, headers);
    const options: DispatchOptions = {
      method: exchange.req.method as string,
      path: exchange.query === '' ? path : `${path}?${exchange.query}`,
      headers: upstreamHeaders(exchange, headers, host),
      body: null,
      contentLength: null,
      upgrade: exchange.upgrade,
      expectContinue: exchange.expectContinue,
      rawOnly: this.#rawOnly && exchange.upgrade === null,
      call: this,
    };
    if (exchange.hasBody) this.#attachBody(options);
    this.#options = options;
    atEndOfTurn(this);
  }

  /** First the request leaves; later, after the turn that brought its head, the response does. */
  endOfTurn(): void {
    const options = this.#options;
    try {
      if (options === null) this.#answer();
      else {
        this.#options = null;
        if (!this.exchange.aborted && this.#phase === 'waiting') this.target.chain.dispatch(options, this);
      }
    } catch (error) {
      this.exchange.abort(GONE);
      this.exchange.res.destroy();
      throw error;
    }
  }

  #attachBody(options: DispatchOptions): void {
    const { exchange } = this;
    const { contentLength, bodyLimit } = exchange;
    if (contentLength !== null && contentLength > bodyLimit) throw tooLarge(bodyLimit);
    options.body = exchange.payload ?? exchange.req;
    options.contentLength = exchange.payload === null ? contentLength : (exchange.payload.byteLength ?? null);
    this.#watch = BodyWatch.start(exchange, this.service.wheel, bodyLimit, (error) => this.#fail(error));
  }

  onRequestStart(controller: DispatchController): void {
    if (this.exchange.aborted || this.#phase === 'over') controller.abort(GONE);
    else this.exchange.controller = controller;
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders): void {
    if (this.#phase !== 'waiting') return;
    const { exchange } = this;
    if (status < 200) {
      sendInformational(exchange, status, controller.rawHeaders, headers);
      return;
    }
    this.#status = status;
    this.#headers = headers;
    if (this.#rawOnly) this.#rawHeaders = controller.rawHeaders;
    this.#phase = 'deciding';
    atEndOfTurn(this);
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    this.exchange.bytesOut += chunk.length;
    if (this.#phase === 'streaming') {
      (this.#body as UpstreamBody).deliver(chunk);
    } else if (this.#phase === 'deciding') {
      if (this.#early === null) this.#early = chunk;
      else if (Array.isArray(this.#early)) this.#early.push(chunk);
      else this.#early = [this.#early, chunk];
    }
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.exchange.controller = null;
    const lines = passingTrailers(this.#rawOnly ? controller.rawTrailers : null, trailers);
    if (this.#phase === 'streaming') {
      this.#phase = 'over';
      this.#stopUpload();
      (this.#body as UpstreamBody).finish(lines);
      cutRest(this.exchange);
    } else if (this.#phase === 'deciding') {
      this.#stopUpload();
      this.#trailers = lines;
      this.#complete = true;
    }
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.exchange.controller = null;
    this.#fail(asUpstreamError(error));
  }

  onRequestUpgrade(
    _controller: DispatchController,
    status: number,
    headers: ResponseHeaders,
    socket: import('node:stream').Duplex,
    head?: Buffer,
  ): void {
    const { exchange } = this;
    exchange.controller = null;
    this.#phase = 'over';
    recordUpgrade(exchange, performance.now());
    openTunnel(
      exchange,
      this.reply,
      { status, headers, socket, head: head ?? null },
      this.backend.responseHeaders,
      this.timeouts.idleMs,
    );
  }

  /** A small body that arrived whole goes out as one buffer; what has not ended by now is a stream. */
  #answer(): void {
    const { exchange, reply } = this;
    if (this.#phase !== 'deciding' || exchange.aborted) return;
    this.#phase = this.#complete ? 'over' : 'streaming';
    reply.code(this.#status);
    const hasContentType = copyResponseHeaders(reply, this.#rawHeaders, this.#headers);
    for (const changes of this.backend.responseHeaders) applyToReply(changes as HeaderChanges, reply);
    if (this.#endpoint !== null) this.backend.session?.bind(exchange, this.#endpoint, reply);
    if (!this.#complete) {
      this.#startStream();
      return;
    }
    releaseBody(exchange, reply);
    // Fastify gives a buffer without a content type one of its own.
    if (this.#trailers !== null || (this.#early !== null && !hasContentType)) {
      this.#startStream().finish(this.#trailers);
    } else reply.send(this.#wholeBody());
  }

  #wholeBody(): Buffer | undefined {
    const early = this.#early;
    if (early === null) return undefined;
    return Array.isArray(early) ? Buffer.concat(early) : early;
  }

  #startStream(): UpstreamBody {
    const body = new UpstreamBody(this.exchange, this.service.wheel, this.timeouts.idleMs);
    this.#body = body;
    const early = this.#early;
    this.#early = null;
    if (Array.isArray(early)) for (const chunk of early) body.deliver(chunk);
    else if (early !== null) body.deliver(early);
    this.reply.send(body);
    return body;
  }

  #stopUpload(): void {
    this.#watch?.stop();
    this.#watch = null;
  }

  /** Answers with the error where nothing went out yet, else breaks the response off so that nobody takes it for whole. */
  #fail(error: SelvedgeError): void {
    const { exchange, reply } = this;
    const phase = this.#phase;
    if (phase === 'over') return;
    this.#phase = 'over';
    this.#stopUpload();
    const { controller } = exchange;
    exchange.controller = null;
    controller?.abort(error);
    if (exchange.aborted) {
      this.#body?.destroy(error);
      return;
    }
    exchange.reason ??= error.reason;
    if (phase === 'streaming') {
      (this.#body as UpstreamBody).breakOff(error);
      return;
    }
    reply.send(error);
  }
}

function tooLarge(limit: number): SelvedgeError {
  return new SelvedgeError('SLV_BODY_TOO_LARGE', `the request body is larger than ${limit} bytes`, {
    detail: `At most ${limit} bytes are accepted.`,
  });
}

const GONE = new Error('the client is gone');
const NO_HEADERS: ResponseHeaders = Object.freeze(Object.create(null));

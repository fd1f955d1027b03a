// One distinct list of plugins as one Fastify instance that never listens; requests enter by `enter` and leave through the forwarder.
import { METHODS } from 'node:http';
import httpProxy from '@fastify/http-proxy';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Dispatch, DispatchHandler, Interceptor } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { MeteredRequest } from '../http/metered-request.ts';
import type { AttemptObserver, Central, ChainInfo, Exchange, OwnRequest, Policies, Shared } from '../plugin.ts';
import type { Caller } from '../upstream/caller.ts';
import { buildStack } from '../upstream/stack.ts';
import { attributeHooks, exchangeOf } from './attribution.ts';
import { ChainLog } from './chain-log.ts';
import { EXCHANGE, type RequestExchange } from './exchange.ts';
import { forward } from './forward.ts';
import type { LoadedPlugin } from './load-plugin.ts';
import { joinObservers } from './observers.ts';
import { type ServiceDirectory, sendOwn } from './own-request.ts';
import { asSelvedgeError, sendProblem } from './problem.ts';
import type { TargetChain } from './target.ts';

export interface ChainSpec {
  /** Equal keys mean equal chains; a reload carries those over. */
  readonly key: string;
  readonly info: ChainInfo;
  readonly plugins: readonly LoadedPlugin[];
}

export interface ChainDeps {
  readonly logger: Logger;
  readonly registry: Registry;
  readonly shared: Shared;
  readonly central: Central | null;
  readonly services: ServiceDirectory;
  /** Who this process is to hops, for whoever enters this chain. */
  readonly caller: Caller | null;
}

export class Chain implements TargetChain {
  readonly key: string;
  readonly names: readonly string[];
  readonly app: FastifyInstance;
  readonly dispatch: Dispatch;
  readonly intercepts: boolean;
  readonly observe: AttemptObserver | null;
  readonly policies: Policies;
  #inFlight = 0;
  #retired = false;
  readonly #onClose: () => void;

  constructor(spec: ChainSpec, app: FastifyInstance, interceptors: Interceptors, logger: Logger, onClose: () => void) {
    this.key = spec.key;
    this.names = spec.plugins.map((plugin) => plugin.name);
    this.app = app;
    this.dispatch = buildStack(interceptors);
    this.policies = interceptors.policies;
    this.intercepts = interceptors.perRequest.length + interceptors.perAttempt.length > 0;
    this.observe = joinObservers(interceptors.observers, logger);
    this.#onClose = onClose;
  }

  /** Runs the request through the plugins. Fastify's own router only ever sees `/`, so that no path can confuse it. */
  enter(exchange: RequestExchange): void {
    this.#inFlight++;
    exchange.chain = this;
    const { req, query } = exchange;
    req.url = query === '' ? '/' : `/?${query}`;
    this.app.routing(req, exchange.res);
  }

  leave(): void {
    this.#inFlight--;
    if (this.#retired && this.#inFlight === 0) void this.#close();
  }

  /** No new requests come; closes once the last one is over. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    if (this.#inFlight === 0) void this.#close();
  }

  async #close(): Promise<void> {
    try {
      await this.app.close();
    } finally {
      this.#onClose();
    }
  }
}

interface Interceptors {
  readonly perRequest: Interceptor[];
  readonly perAttempt: Interceptor[];
  readonly observers: AttemptObserver[];
  policies: Policies;
}

/** Builds the instance. Rejects with a SelvedgeError that names the plugin which failed to load. */
export async function buildChain(spec: ChainSpec, deps: ChainDeps, onClose: () => void): Promise<Chain> {
  const app = fastify({
    logger: false,
    logController: new ChainLog(),
    exposeHeadRoutes: false,
    return503OnClosing: false,
    requestIdHeader: false,
    forceCloseConnections: false,
    genReqId: (req) => (req as { [EXCHANGE]?: RequestExchange })[EXCHANGE]?.id ?? '',
  });
  for (const method of METHODS) {
    app.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  }
  const interceptors: Interceptors = { perRequest: [], perAttempt: [], observers: [], policies: {} };
  app.decorate('upstream', {
    intercept(phase: 'perRequest' | 'perAttempt', interceptor: Interceptor): void {
      interceptors[phase].push(interceptor);
    },
    observe(observer: AttemptObserver): void {
      interceptors.observers.push(observer);
    },
    policy(policies: Policies): void {
      interceptors.policies = { ...interceptors.policies, ...policies };
    },
    send(service: string, subset: string | null, request: OwnRequest, handler: DispatchHandler): void {
      sendOwn(deps.services, { role: spec.info.role, caller: deps.caller }, service, subset, request, handler);
    },
  });
  app.decorate('shared', deps.shared);
  app.decorate('central', { getter: () => deps.central });
  app.decorate('rateLimitKeys', new Map());
  app.decorate('chain', spec.info);
  app.decorate('metrics', deps.registry);
  app.decorate('logger', deps.logger);
  app.decorateRequest('selvedge', {
    getter(): Exchange {
      return exchangeOf(this as unknown as FastifyRequest);
    },
  });
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply, deps.logger));
  app.addHook('onRequest', arrive(deps.logger, identityHeadersOf(spec.plugins)));

  const blame = attributeHooks(app, deps.logger);
  try {
    for (const { name, plugin, options } of spec.plugins) {
      blame.current = name;
      await app.register(plugin as never, options as never);
    }
    blame.current = null;
    if (blame.replacesBodies) app.addHook('preParsing', keepPayload);
    await app.register(httpProxy, {
      upstream: '',
      httpMethods: METHODS,
      proxyPayloads: false,
      undici: NEVER_USED,
      preHandler: terminal,
      handler: terminal,
      replyOptions: { getUpstream: () => '' },
    } as never);
    await app.ready();
  } catch (error) {
    await app.close().catch(() => undefined);
    onClose();
    const name = blame.current;
    if (name === null) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new SelvedgeError('SLV_PLUGIN_FAILED', `plugin "${name}" failed to load: ${message}`, { cause: error });
  }
  return new Chain(spec, app, interceptors, deps.logger, onClose);
}

/** The dispatcher that reply-from would use if anything called `reply.from`: requests leave by our own stack alone. */
const NEVER_USED = {
  request(): never {
    throw new Error('reply.from is not available in a Selvedge chain: the route decides where a request goes');
  },
};

const CLIENT_GONE = new SelvedgeError('SLV_CLIENT_ABORTED', 'the client went away');

/** First hook of every chain: plugins see the normalised URL, the process log, and no identity that the client made up. */
function arrive(logger: Logger, identityHeaders: readonly string[]) {
  // CGI and WSGI make one variable of `x-user` and `x_user`.
  const forms = [...new Set(identityHeaders.flatMap((name) => [name, name.replaceAll('_', '-')]))];
  const isIdentity = (name: string): boolean => forms.includes(name) || forms.includes(name.replaceAll('_', '-'));
  return function arriveHook(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
    const exchange = exchangeOf(request);
    request.raw.url = exchange.url;
    request.log = logger;
    reply.log = logger;
    if (forms.length > 0) {
      const { headers } = request.raw;
      for (const name of forms) delete headers[name];
      for (const name in headers) if (name.includes('_') && isIdentity(name)) delete headers[name];
      if (exchange.hasBody) (exchange.req as MeteredRequest).withholdTrailers(isIdentity);
    }
    done();
  };
}

function identityHeadersOf(plugins: readonly LoadedPlugin[]): readonly string[] {
  return [...new Set(plugins.flatMap((plugin) => plugin.identityHeaders ?? []))];
}

/** Last preParsing hook: remembers the body if a plugin replaced it. */
function keepPayload(
  request: FastifyRequest,
  _reply: FastifyReply,
  payload: unknown,
  done: (error: null, payload: never) => void,
): void {
  if (payload !== request.raw) exchangeOf(request).payload = payload as RequestExchange['payload'];
  done(null, payload as never);
}

/**
 * Given to http-proxy as its handler and as the last hook before it, and never reached twice: http-proxy resolves the URL anew
 * (three URL parses) before it calls a handler, a tenth of a request's CPU for a path that is settled and that it never sees.
 */
function terminal(request: FastifyRequest, reply: FastifyReply): void {
  const exchange = exchangeOf(request);
  exchange.plugin = null;
  forward(exchange, request, reply);
}

function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply, logger: Logger): void {
  const exchange = exchangeOf(request);
  exchange.answeringError = true;
  // What a hook was waiting for ended with the client: nobody's failure.
  const problem = exchange.aborted ? CLIENT_GONE : asSelvedgeError(error, exchange.plugin);
  if (problem.statusCode >= 500 && (problem.code === 'SLV_PLUGIN_FAILED' || problem.code === 'SLV_INTERNAL')) {
    logger.error(
      {
        err: problem.facts.cause ?? problem,
        plugin: exchange.plugin,
        requestId: exchange.id,
        route: exchange.route?.name,
      },
      problem.message,
    );
  }
  sendProblem(reply, exchange, problem);
}

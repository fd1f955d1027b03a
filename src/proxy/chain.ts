// One distinct list of plugins as one Fastify instance that never listens; requests enter by `enter` and leave through the forwarder.
import { METHODS } from 'node:http';
import httpProxy from '@fastify/http-proxy';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Dispatch, Interceptor } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { ChainInfo, Exchange, Shared } from '../plugin.ts';
import { buildStack } from '../upstream/stack.ts';
import { ChainLog } from './chain-log.ts';
import { EXCHANGE, type RequestExchange } from './exchange.ts';
import { forward } from './forward.ts';
import type { LoadedPlugin } from './load-plugin.ts';
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
}

/** Hooks that run while a request passes; the ones whose errors are a plugin's fault. */
const REQUEST_HOOKS: ReadonlySet<string> = new Set([
  'onRequest',
  'preParsing',
  'preValidation',
  'preHandler',
  'preSerialization',
  'onSend',
  'onResponse',
  'onError',
  'onTimeout',
  'onRequestAbort',
]);

export class Chain implements TargetChain {
  readonly key: string;
  readonly names: readonly string[];
  readonly app: FastifyInstance;
  readonly dispatch: Dispatch;
  readonly intercepts: boolean;
  #inFlight = 0;
  #retired = false;
  readonly #onClose: () => void;

  constructor(spec: ChainSpec, app: FastifyInstance, interceptors: Interceptors, onClose: () => void) {
    this.key = spec.key;
    this.names = spec.plugins.map((plugin) => plugin.name);
    this.app = app;
    this.dispatch = buildStack(interceptors);
    this.intercepts = interceptors.perRequest.length + interceptors.perAttempt.length > 0;
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
    if (method !== 'CONNECT') app.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  }
  const interceptors: Interceptors = { perRequest: [], perAttempt: [] };
  app.decorate('upstream', {
    intercept(phase: 'perRequest' | 'perAttempt', interceptor: Interceptor): void {
      interceptors[phase].push(interceptor);
    },
  });
  app.decorate('shared', deps.shared);
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
      httpMethods: METHODS.filter((method) => method !== 'CONNECT'),
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
  return new Chain(spec, app, interceptors, onClose);
}

/** The dispatcher that reply-from would use if anything called `reply.from`: requests leave by our own stack alone. */
const NEVER_USED = {
  request(): never {
    throw new Error('reply.from is not available in a Selvedge chain: the route decides where a request goes');
  },
};

/** The data plane put the exchange there before it called `enter`. */
function exchangeOf(request: FastifyRequest): RequestExchange {
  return request.raw[EXCHANGE] as RequestExchange;
}

/** First hook of every chain: plugins see the normalised URL, the process log, and no identity that the client made up. */
function arrive(logger: Logger, identityHeaders: readonly string[]) {
  return function arriveHook(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
    const exchange = exchangeOf(request);
    request.raw.url = exchange.url;
    request.log = logger;
    reply.log = logger;
    for (const name of identityHeaders) delete request.raw.headers[name];
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
  const problem = asSelvedgeError(error, exchange.plugin);
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

interface Attribution {
  /** The plugin that is being loaded. */
  current: string | null;
  /** Some plugin looks at request bodies before they are sent on. */
  replacesBodies: boolean;
}

/**
 * Notes on the exchange whose hook runs, so that an error names its plugin. One assignment a hook, no closure a request:
 * hooks run one after the other, so the last that started is the one that threw.
 */
function attributeHooks(app: FastifyInstance, logger: Logger): Attribution {
  const blame: Attribution = { current: null, replacesBodies: false };
  const addHook = app.addHook as unknown as (
    this: unknown,
    name: string,
    hook: (...args: unknown[]) => unknown,
  ) => unknown;
  const attributed = function attributed(this: unknown, name: string, hook: (...args: unknown[]) => unknown): unknown {
    const plugin = blame.current;
    if (name === 'preParsing') blame.replacesBodies = true;
    if (plugin === null || !REQUEST_HOOKS.has(name)) return addHook.call(this, name, hook);
    if (name === 'onSend') return addHook.call(this, name, namedSend(plugin, hook, logger));
    return addHook.call(this, name, name === 'onTimeout' || name === 'onRequestAbort' ? hook : named(plugin, hook));
  };
  (app as { addHook: unknown }).addHook = attributed;
  return blame;
}

type AnyHook = (this: unknown, ...args: unknown[]) => unknown;

/**
 * Like `named`. While an error is being answered a hook that fails is passed over: Fastify would fall back to its own answer,
 * which tells the client the message.
 */
function namedSend(plugin: string, hook: AnyHook, logger: Logger): AnyHook {
  const failed = (error: unknown): void =>
    logger.error({ err: error, plugin }, 'onSend failed while an error was answered');
  if (hook.length >= 4) {
    return function attributedSend(
      this: unknown,
      request: unknown,
      reply: unknown,
      payload: unknown,
      done: unknown,
    ): unknown {
      const exchange = exchangeOf(request as FastifyRequest);
      exchange.plugin = plugin;
      if (!exchange.answeringError) return hook.call(this, request, reply, payload, done);
      const pass = done as (error: null, payload: unknown) => void;
      try {
        return hook.call(this, request, reply, payload, (error: unknown, changed: unknown) => {
          if (error != null) failed(error);
          pass(null, error != null || changed === undefined ? payload : changed);
        });
      } catch (error) {
        failed(error);
        pass(null, payload);
      }
      return undefined;
    };
  }
  return async function attributedSend(
    this: unknown,
    request: unknown,
    reply: unknown,
    payload: unknown,
  ): Promise<unknown> {
    const exchange = exchangeOf(request as FastifyRequest);
    exchange.plugin = plugin;
    if (!exchange.answeringError) return hook.call(this, request, reply, payload);
    try {
      return await hook.call(this, request, reply, payload);
    } catch (error) {
      failed(error);
      return payload;
    }
  };
}

/** Same arity as the hook: Fastify tells callback hooks from promise ones by it. */
function named(plugin: string, hook: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
  if (hook.length >= 4) {
    return function attributedHook(
      this: unknown,
      request: unknown,
      reply: unknown,
      payload: unknown,
      done: unknown,
    ): unknown {
      exchangeOf(request as FastifyRequest).plugin = plugin;
      return hook.call(this, request, reply, payload, done);
    };
  }
  if (hook.length === 3) {
    return function attributedHook(this: unknown, request: unknown, reply: unknown, third: unknown): unknown {
      exchangeOf(request as FastifyRequest).plugin = plugin;
      return hook.call(this, request, reply, third);
    };
  }
  return async function attributedHook(this: unknown, request: unknown, reply: unknown): Promise<unknown> {
    exchangeOf(request as FastifyRequest).plugin = plugin;
    return await hook.call(this, request, reply);
  };
}

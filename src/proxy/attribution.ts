// Which plugin's hook runs: noted on the exchange, so that an error names who threw it.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { EXCHANGE, type RequestExchange } from './exchange.ts';

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

/** The data plane put the exchange there before it called `enter`. */
export function exchangeOf(request: FastifyRequest): RequestExchange {
  return request.raw[EXCHANGE] as RequestExchange;
}

export interface Attribution {
  /** The plugin that is being loaded. */
  current: string | null;
  /** Some plugin looks at request bodies before they are sent on. */
  replacesBodies: boolean;
}

/**
 * Notes on the exchange whose hook runs, so that an error names its plugin. One assignment a hook, no closure a request:
 * hooks run one after the other, so the last that started is the one that threw.
 */
export function attributeHooks(app: FastifyInstance, logger: Logger): Attribution {
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

// A chain without network: the given plugins, loaded as a config would load them, around a service that is a function.
import fastify, {
  type FastifyInstance,
  type FastifyRequest,
  type InjectOptions,
  type LightMyRequestResponse,
} from 'fastify';
import { type Logger, pino } from 'pino';
import { Registry } from 'prom-client';
import { formatProblem, hasErrors } from '../../src/config/problem.ts';
import type { Dispatch, DispatchHandler, DispatchOptions, Interceptor } from '../../src/dispatch.ts';
import { SelvedgeError } from '../../src/errors.ts';
import { withoutQuery } from '../../src/http/query.ts';
import type {
  Attempt,
  AttemptObserver,
  Central,
  Exchange,
  OwnRequest,
  Peer,
  Policies,
  Role,
  RouteInfo,
  Shared,
  Verdict,
} from '../../src/plugin.ts';
import { builtins } from '../../src/plugins/index.ts';
import { loadPlugins } from '../../src/proxy/load-plugin.ts';
import { joinObservers } from '../../src/proxy/observers.ts';
import { copyResponseHeaders } from '../../src/proxy/response-headers.ts';
import { SharedStore } from '../../src/runtime/shared.ts';

/** What the service answers. `abort`: the client leaves before it does. */
export type Answer =
  | { status?: number; headers?: Record<string, string | string[]>; body?: string }
  | { fails: Error }
  | 'abort';

export interface ChainOptions {
  role?: Role;
  owner?: string;
  /** Facts of every exchange that differ from the usual ones. */
  exchange?: Partial<TestExchange>;
  /** Claims, as a plugin that verified them would leave them. */
  user?: unknown;
  /** `null`: the test calls the handler itself. */
  answer?: (options: DispatchOptions, handler: DispatchHandler) => Answer | null;
  /** What of the dispatch options differs from a request without a body. */
  dispatch?: (request: FastifyRequest) => Partial<DispatchOptions>;
  registry?: Registry;
  store?: SharedStore;
  central?: Central;
  logger?: Logger;
}

export class TestExchange implements Exchange {
  id = 'id-1';
  traceId: string | null = null;
  role: Role = 'gateway';
  owner = 'public';
  listener = 'http';
  scheme: 'http' | 'https' = 'http';
  host = 'shop.example.com';
  port: string | null = null;
  path = '/';
  query = '';
  clientAddress = '192.0.2.1';
  peer: Peer | null = null;
  trusted = false;
  route: RouteInfo | null = { name: 'orders', matchedPrefix: '/' };
  service: string | null = 'orders';
  subset: string | null = null;
  endpoint: string | null = '127.0.0.1:3000';
  attempts: Attempt[] = [];
  startedAt = performance.now();
  deadlineAt = Number.POSITIVE_INFINITY;
  reason: string | null = null;
  because: string | null = null;
  cache: string | null = null;
  decidedBy: string | null = null;
  verdict: string | null = null;
  authorization: Verdict | null = null;
  policies: Policies | null = null;
  bytesIn = 0;
  bytesOut = 0;
  upgrade: string | null = null;
  /** What plugins asked for. */
  bodyLimit = Number.POSITIVE_INFINITY;
  sentTo: { service: string | null; subset: string | null } | null = null;

  limitBody(bytes: number): void {
    this.bodyLimit = Math.min(this.bodyLimit, bytes);
  }

  dropQuery(name: string): void {
    this.query = withoutQuery(this.query, name);
  }

  sendTo(service: string | null, subset: string | null = null): void {
    this.sentTo = { service, subset };
  }
}

export interface OwnSent {
  readonly service: string;
  readonly subset: string | null;
  readonly request: OwnRequest;
  readonly handler: DispatchHandler;
}

export interface TestChain {
  readonly app: FastifyInstance;
  readonly registry: Registry;
  /** What reached the service, in order. */
  readonly sent: DispatchOptions[];
  /** The exchange of every request, in order. */
  readonly exchanges: TestExchange[];
  /** What plugins set by `app.upstream.policy`. */
  readonly policies: Policies;
  /** What plugins sent by `app.upstream.send`, in order; the test answers. */
  readonly own: OwnSent[];
  inject(request: InjectOptions): Promise<LightMyRequestResponse>;
  /** Releases shared state too, as retiring a chain does. */
  close(): Promise<void>;
}

/** A plugin by built-in name or absolute path, with its options as a config would write them. Rejects with every problem. */
export async function testChain(
  plugins: readonly (readonly [name: string, options?: Record<string, unknown>])[],
  options: ChainOptions = {},
): Promise<TestChain> {
  const { role = 'gateway', owner = 'public', registry = new Registry(), store = new SharedStore() } = options;
  const uses = plugins.map(([name, written = {}], index) => ({
    name,
    written: name,
    options: written,
    at: { file: 'selvedge.yaml', line: index + 1, column: 1 },
    baseDir: import.meta.dirname,
  }));
  const { loaded, problems } = await loadPlugins(uses, builtins);
  if (hasErrors(problems)) throw new Error(problems.map(formatProblem).join('\n'));

  const app = fastify({ logger: false, exposeHeadRoutes: false });
  const sent: DispatchOptions[] = [];
  const exchanges: TestExchange[] = [];
  const phases: Record<'perRequest' | 'perAttempt', Interceptor[]> = { perRequest: [], perAttempt: [] };
  const observers: AttemptObserver[] = [];
  const policies: Policies = {};
  const own: OwnSent[] = [];
  const shared: Shared = (key, make, dispose) => store.use(app, key, make, dispose);
  app.decorate('upstream', {
    intercept(phase: 'perRequest' | 'perAttempt', one: Interceptor): void {
      phases[phase].push(one);
    },
    observe(observer: AttemptObserver): void {
      observers.push(observer);
    },
    policy(set: Policies): void {
      Object.assign(policies, set);
    },
    send(service: string, subset: string | null, request: OwnRequest, handler: DispatchHandler): void {
      own.push({ service, subset, request, handler });
    },
  });
  app.decorate('shared', shared);
  app.decorate('central', { getter: () => options.central ?? null });
  app.decorate('rateLimitKeys', new Map());
  app.decorate('chain', { role, owner, unrouted: false, version: '1.2.3' });
  app.decorate('metrics', registry);
  app.decorate('logger', (options.logger ?? pino({ level: 'silent' })) as never);
  app.decorateRequest('selvedge', null as never);
  app.decorateRequest('user', null as never);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  app.addHook('onRequest', async (request) => {
    const [path, query = ''] = request.url.split('?');
    const exchange = Object.assign(new TestExchange(), { role, owner, path, query }, options.exchange);
    Object.assign(request, { selvedge: exchange, user: options.user });
    exchanges.push(exchange);
  });
  app.setErrorHandler((error, request, reply) => {
    const known = error instanceof SelvedgeError ? error : new SelvedgeError('SLV_PLUGIN_FAILED', String(error));
    (request.selvedge as TestExchange).reason = known.reason;
    if (known.facts.headers !== undefined) reply.headers(known.facts.headers);
    if (known.facts.retryAfter !== undefined) reply.header('retry-after', String(known.facts.retryAfter));
    const { answer } = known.facts;
    reply.code(known.statusCode).headers(answer?.headers ?? {});
    reply.send(answer === undefined ? { code: known.code } : answer.body.length === 0 ? undefined : answer.body);
  });
  for (const use of uses) {
    const plugin = loaded.get(use);
    if (plugin !== undefined) await app.register(plugin.plugin as never, plugin.options as never);
  }
  const observe = joinObservers(observers, options.logger ?? pino({ level: 'silent' }));
  app.all('*', (request, reply) => {
    const service: Dispatch = (given, handler) => {
      const exchange = request.selvedge as TestExchange;
      const attempt: Attempt = { endpoint: '127.0.0.1:3000', outcome: 'pending', status: 0, durationMs: 0 };
      if (observe !== null) exchange.attempts.push(attempt);
      const { method, path } = given;
      const watch = observe?.(request, attempt, { method, path, origin: 'http://127.0.0.1:3000' }) ?? null;
      const dispatched = watch === null ? given : { ...given, headers: withValues(given.headers, watch.headers) };
      sent.push(dispatched);
      const answer = options.answer === undefined ? {} : options.answer(dispatched, handler);
      if (answer === null) return true;
      if (answer === 'abort') {
        exchange.reason = 'client_aborted';
        watch?.end(attempt);
        reply.raw.emit('error', new Error('the client went away'));
        reply.raw.destroy();
        return true;
      }
      if ('fails' in answer) {
        handler.onResponseError?.(NO_CONTROL, answer.fails);
        return true;
      }
      const { status = 200, headers = {}, body = 'ok' } = answer;
      handler.onResponseStart?.(NO_CONTROL, status, headers);
      handler.onResponseData?.(NO_CONTROL, Buffer.from(body));
      Object.assign(attempt, { outcome: 'ok', status });
      watch?.end(attempt);
      handler.onResponseEnd?.(NO_CONTROL, {});
      return true;
    };
    const dispatch = [...phases.perRequest, ...phases.perAttempt].reduceRight((next, one) => one(next), service);
    const headers = Object.entries(request.headers).flatMap(([name, value]) =>
      [value].flat().flatMap((one) => [name, String(one)]),
    );
    const body: Buffer[] = [];
    dispatch(
      {
        method: request.method,
        path: request.url,
        headers,
        body: null,
        contentLength: null,
        upgrade: null,
        expectContinue: false,
        rawOnly: false,
        call: { service: { name: (request.selvedge as TestExchange).service }, exchange: request.selvedge },
        ...options.dispatch?.(request),
      },
      {
        onResponseStart: (_control, status, received) => void copyResponseHeaders(reply.code(status), null, received),
        onResponseData: (_control, chunk) => body.push(chunk),
        onResponseEnd: () => void reply.send(Buffer.concat(body)),
        onResponseError: (_control, error) => void reply.send(error),
      },
    );
  });
  await app.ready();
  return {
    app,
    registry,
    sent,
    exchanges,
    policies,
    own,
    inject: (request) => app.inject(request),
    close: async () => {
      await app.close();
      store.release(app);
    },
  };
}

/** What the balance policy makes of the headers of a watched try. */
function withValues(headers: readonly string[], instead: readonly string[]): string[] {
  return headers.map((value, index) => {
    const own = index % 2 === 1 ? instead.indexOf(headers[index - 1]) : -1;
    return own >= 0 ? instead[own + 1] : value;
  });
}

/** Values of one header as the service received them. */
export function sentValues({ headers }: DispatchOptions, name: string): string[] {
  return headers.filter((_, index) => index % 2 === 1 && headers[index - 1].toLowerCase() === name);
}

const NO_CONTROL = {
  pause: () => {},
  resume: () => {},
  abort: () => {},
  paused: false,
  aborted: false,
  reason: null,
  rawHeaders: null,
  rawTrailers: null,
};

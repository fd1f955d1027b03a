// Which web pages of other origins may read the answers (Fetch standard, CORS protocol): answers preflights itself, marks all other answers.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import {
  Counter,
  definePlugin,
  type OptionProblem,
  parseDurationMs,
  SelvedgeError,
  Type,
  UNIT_PATTERNS,
} from '../plugin.ts';
import { Origin, originProblems, originTest } from './cors-origins.ts';

const REFUSED = 'selvedge_cors_refused_total';

/** What only this plugin says: the service's own idea of it is taken off. */
const OWN_HEADERS = [
  'access-control-allow-credentials',
  'access-control-allow-headers',
  'access-control-allow-methods',
  'access-control-allow-origin',
  'access-control-allow-private-network',
  'access-control-expose-headers',
  'access-control-max-age',
] as const;

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const TOKENS = /^[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,2048}$/;
const Options = Type.Object({
  origins: Type.Array(Origin, {
    minItems: 1,
    description:
      'Origins whose pages may read answers: `https://app.example.com`, `https://*.example.com` (any subdomain, not the domain itself), `{ regex }` (RE2, the whole origin), or `*`: any.',
  }),
  methods: Type.Array(Type.String(), {
    default: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    description: 'Methods that preflights allow.',
  }),
  headers: Type.Array(Type.String(), {
    default: ['authorization', 'content-type'],
    description: 'Request headers that preflights allow; `*`: whatever the page asks for.',
  }),
  exposeHeaders: Type.Array(Type.String(), {
    default: [],
    description: 'Response headers that pages may read beside the few that they always may; `*`: all.',
  }),
  credentials: Type.Boolean({
    default: false,
    description: 'Pages may send cookies and client certificates along. Not together with origins that are not listed.',
  }),
  maxAge: Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 10m',
    default: '10m',
    description: 'How long browsers may keep what a preflight said.',
  }),
  privateNetwork: Type.Boolean({
    default: false,
    description: 'Pages from the public network may call though this gateway is in a private one.',
  }),
});
type Options = Static<typeof Options>;

declare module 'fastify' {
  interface FastifyRequest {
    /** `Origin` as it came in; plugins may change what goes to the service. */
    corsOrigin: string | null;
  }
}

export default definePlugin(
  { name: 'cors', options: Options, check: problemsOf, unrouted: true },
  async (app, options) => {
    const { methods, exposeHeaders, credentials, privateNetwork } = options;
    const isAllowed = originTest(options.origins);
    const anyOrigin = options.origins.includes('*');
    const anyHeader = options.headers.includes('*');
    const vary = anyOrigin ? [] : ['Origin'];
    const varyPreflight = [
      ...vary,
      ...(anyHeader ? ['Access-Control-Request-Headers'] : []),
      ...(privateNetwork ? ['Access-Control-Request-Private-Network'] : []),
    ];
    const allowMethods = methods.join(', ');
    const expose = exposeHeaders.join(', ');
    const allowHeaders = options.headers.join(', ');
    const maxAge = String(Math.floor((parseDurationMs(options.maxAge) as number) / 1_000));
    const { owner } = app.chain;
    const refused = app.shared(
      'cors metrics',
      () => {
        const help = 'Preflights of pages whose origin is not allowed';
        return new Counter({ name: REFUSED, help, labelNames: ['owner', 'route'], registers: [app.metrics] });
      },
      () => app.metrics.removeSingleMetric(REFUSED),
    );
    if (!app.hasRequestDecorator('corsOrigin')) app.decorateRequest('corsOrigin', null);

    app.addHook('onRequest', (request, reply, done) => {
      const { headers } = request;
      const origin = headers.origin ?? null;
      request.corsOrigin = origin;
      if (origin === null || !isPreflight(request)) {
        done();
        return;
      }
      if (!isAllowed(origin)) {
        refused.inc({ owner, route: request.selvedge.route?.name ?? '' });
        done(
          new SelvedgeError('SLV_ORIGIN_DENIED', `origin ${JSON.stringify(origin.slice(0, 256))} is not in "origins"`),
        );
        return;
      }
      // Which method or header is missing the browser says itself, by these lists.
      reply.header('access-control-allow-methods', allowMethods);
      const allowed = anyHeader ? requestedHeaders(request) : allowHeaders;
      if (allowed !== '') reply.header('access-control-allow-headers', allowed);
      if (privateNetwork && headers['access-control-request-private-network'] === 'true')
        reply.header('access-control-allow-private-network', 'true');
      reply.header('access-control-max-age', maxAge);
      addVary(reply, varyPreflight);
      markOrigin(reply, origin);
      reply.code(204).send();
    });

    app.addHook('onSend', (request, reply, payload, done) => {
      // Null where another plugin refused the request before this one saw it.
      const origin = request.corsOrigin ?? request.headers.origin ?? null;
      const preflight = origin !== null && isPreflight(request);
      if (!preflight) {
        for (const name of OWN_HEADERS) reply.removeHeader(name);
        // `*` stands on every answer: one without it in a cache would be no answer to a page.
        if (anyOrigin || (origin !== null && isAllowed(origin))) {
          markOrigin(reply, origin ?? '*');
          if (expose !== '') reply.header('access-control-expose-headers', expose);
        }
      }
      addVary(reply, vary);
      done(null, payload);
    });

    function markOrigin(reply: FastifyReply, origin: string): void {
      reply.header('access-control-allow-origin', anyOrigin ? '*' : origin);
      if (credentials) reply.header('access-control-allow-credentials', 'true');
    }
  },
);

function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === 'OPTIONS' && headers['access-control-request-method'] !== undefined;
}

function requestedHeaders({ headers }: FastifyRequest): string {
  const requested = headers['access-control-request-headers'];
  return typeof requested === 'string' && TOKENS.test(requested) ? requested : '';
}

/** Beside what stands there already: of the service, of other plugins. */
function addVary(reply: FastifyReply, names: readonly string[]): void {
  if (names.length === 0) return;
  const before = [reply.getHeader('vary') ?? []].flat().flatMap((value) => String(value).split(','));
  const merged = new Map<string, string>();
  for (const name of [...before.map((value) => value.trim()), ...names])
    if (name !== '' && !merged.has(name.toLowerCase())) merged.set(name.toLowerCase(), name);
  reply.header('vary', merged.has('*') ? '*' : [...merged.values()].join(', '));
}

function problemsOf({ origins, methods, headers, exposeHeaders, credentials, maxAge }: Options): OptionProblem[] {
  const problems = [...originProblems(origins, credentials)];
  const say = (path: string, message: string): void => void problems.push({ path, message });
  for (const [index, method] of methods.entries()) {
    if (!TOKEN.test(method) || method === '*')
      say(`methods[${index}]`, `"${method}" is not a method: list them by name`);
    else if (method !== method.toUpperCase())
      say(`methods[${index}]`, `methods are case-sensitive: ${method.toUpperCase()}`);
  }
  for (const [path, names] of Object.entries({ headers, exposeHeaders })) {
    for (const [index, name] of names.entries())
      if (!TOKEN.test(name)) say(`${path}[${index}]`, `"${name}" is not a header name`);
    if (names.includes('*') && names.length > 1) say(path, '"*" stands for all: leave the others out');
  }
  if (credentials && exposeHeaders.includes('*'))
    say('exposeHeaders', 'with "credentials" browsers take "*" for a header of that name: list them');
  const maxAgeMs = parseDurationMs(maxAge);
  if (maxAgeMs === null || maxAgeMs % 1_000 !== 0) say('maxAge', 'must be whole seconds');
  return problems;
}

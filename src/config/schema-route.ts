// The schema of what leads from a request to a service: routes, their conditions and what they change.
import * as Type from 'typebox/type';
import { MirrorTargets } from '../policies/mirror.ts';
import {
  choice,
  duration,
  headerChanges,
  integer,
  list,
  name,
  named,
  object,
  plugins,
  port,
  rewrite,
  size,
  text,
} from '../schema-parts.ts';
import { fault, hedge, retry, rollout, session } from './schema-traffic.ts';

export const valueMatch = (what: string, example: Record<string, unknown>) =>
  named(
    Type.Union([
      text('The whole value.', { example: 'beta' }),
      object(
        {
          exact: Type.Optional(text('The whole value.', { example: 'beta' })),
          prefix: Type.Optional(text('How the value begins.', { example: 'be' })),
          regex: Type.Optional(text('RE2 expression for the whole value.', { example: 'v[0-9]+', minLength: 1 })),
          present: Type.Optional(Type.Literal(true, { description: 'Any value.', examples: [true] })),
          absent: Type.Optional(Type.Literal(true, { description: 'No value.', examples: [true] })),
        },
        'Exactly one of these.',
        { minProperties: 1, maxProperties: 1 },
      ),
    ]),
    `${what} that the request must carry, by name.`,
    { default: {}, example },
  );

const match = object(
  {
    path: Type.Optional(
      Type.Union(
        [
          text('A prefix by whole segments: `/orders` matches `/orders/1`, never `/orders2`.', {
            example: '/orders',
            minLength: 1,
          }),
          object(
            {
              exact: Type.Optional(text('The whole path.', { example: '/orders', minLength: 1 })),
              prefix: Type.Optional(text('The first segments of the path.', { example: '/orders', minLength: 1 })),
              regex: Type.Optional(
                text('RE2 expression for the whole path.', { example: '/orders/[0-9]+', minLength: 1 }),
              ),
            },
            'Exactly one of these.',
            { minProperties: 1, maxProperties: 1 },
          ),
        ],
        {
          description: 'The path, normalised as docs/concepts.md says.',
          default: { prefix: '/' },
          examples: ['/orders'],
        },
      ),
    ),
    methods: Type.Optional(
      list(Type.String(), 'HTTP methods, in capitals. None: any.', { default: [], example: ['GET', 'POST'] }),
    ),
    headers: Type.Optional(valueMatch('Headers', { 'x-group': 'beta', 'x-trace': { present: true } })),
    query: Type.Optional(valueMatch('Query parameters', { debug: '1' })),
    cookies: Type.Optional(valueMatch('Cookies', { ab: 'b' })),
  },
  'Conditions that must all hold.',
  { example: { path: '/orders', methods: ['GET'] } },
);

const backend = object(
  {
    service: text('The service.', { example: 'orders', minLength: 1 }),
    subset: Type.Optional(text('A subset of the service. Not given: all of it.', { example: 'v2', minLength: 1 })),
    weight: Type.Optional(
      integer('Share of the requests relative to the other backends. `0`: none.', {
        minimum: 0,
        maximum: 1_000_000,
        default: 1,
      }),
    ),
    requestHeaders: Type.Optional(headerChanges('request, for this backend only')),
    responseHeaders: Type.Optional(headerChanges('response, for this backend only')),
    rewrite: Type.Optional(rewrite),
  },
  'One service that the requests of a route may go to.',
  { example: { service: 'orders', weight: 90 } },
);

const to = Type.Union(
  [
    text('One service.', { example: 'orders', minLength: 1 }),
    backend,
    Type.Array(Type.Union([text('One service.', { example: 'orders', minLength: 1 }), backend]), {
      minItems: 1,
      description: 'Several, by weight.',
    }),
  ],
  {
    description: 'Where the requests go.',
    examples: [
      'orders',
      [
        { service: 'orders', subset: 'v1', weight: 90 },
        { service: 'orders', subset: 'v2', weight: 10 },
      ],
    ],
  },
);

const redirect = object(
  {
    scheme: Type.Optional(choice(['http', 'https'], 'Not given: as the request.', { example: 'https' })),
    host: Type.Optional(text('Not given: as the request.', { example: 'www.example.com', minLength: 1 })),
    port: Type.Optional(
      port('Not given: the usual one of `scheme` when that is given, else as the request.', {
        any: false,
        example: 443,
      }),
    ),
    path: Type.Optional(text('Replaces the whole path.', { example: '/new', minLength: 1 })),
    prefix: Type.Optional(text('Replaces the prefix that matched.', { example: '/new', minLength: 1 })),
    status: Type.Optional(
      Type.Unsafe<301 | 302 | 303 | 307 | 308>({
        type: 'integer',
        enum: [301, 302, 303, 307, 308],
        description: 'The status.',
        default: 301,
      }),
    ),
  },
  'Answers with a redirect.',
  { example: { scheme: 'https' } },
);

const respond = object(
  {
    status: Type.Optional(integer('The status.', { minimum: 200, maximum: 599, default: 200 })),
    body: Type.Optional(text('The body.', { default: '', example: 'gone fishing' })),
    headers: Type.Optional(
      named(Type.String(), 'Response headers.', { default: {}, example: { 'content-type': 'text/plain' } }),
    ),
  },
  'Answers by itself.',
  { example: { status: 403, body: 'not here' } },
);

const timeout = object(
  {
    request: Type.Optional(
      duration("From the end of the request's body to the headers of the response, all tries included; past it, 504.", {
        none: true,
        default: '15s',
      }),
    ),
    perTry: Type.Optional(
      duration('The same for one try. Not given: the rest of `request`.', { none: true, example: '3s' }),
    ),
    idle: Type.Optional(duration('Longest pause between bytes of a stream.', { none: true, default: '5m' })),
  },
  'How long the service may take.',
  { default: {}, example: { request: '30s' } },
);

const route = object(
  {
    name: name('Unique.', 'orders'),
    gateways: Type.Optional(
      list(Type.String(), 'Gateways that serve it. Not given: every one.', { minItems: 1, example: ['public'] }),
    ),
    internal: Type.Optional(
      list(Type.String(), "Instead of `gateways`: services whose east-west calls it shapes, at the caller's hop.", {
        minItems: 1,
        example: ['orders'],
      }),
    ),
    listeners: Type.Optional(
      list(Type.String(), 'Listeners of its gateways that serve it. Not given: every one.', {
        minItems: 1,
        example: ['https'],
      }),
    ),
    hosts: Type.Optional(
      list(Type.String(), 'Host names; `*.` at the front stands for one label or more. None: any host.', {
        default: [],
        example: ['shop.example.com', '*.shop.example.com'],
      }),
    ),
    match: Type.Optional(
      list(match, 'Conditions, any of them. Not given: every path.', {
        minItems: 1,
        default: [{}],
        example: [{ path: '/orders' }],
      }),
    ),
    plugins: Type.Optional(plugins('What runs for this route, after the plugins of the gateway and of the listener.')),
    to: Type.Optional(to),
    redirect: Type.Optional(redirect),
    respond: Type.Optional(respond),
    rewrite: Type.Optional(rewrite),
    requestHeaders: Type.Optional(headerChanges('request')),
    responseHeaders: Type.Optional(headerChanges('response')),
    timeout: Type.Optional(timeout),
    retry: Type.Optional(retry),
    hedge: Type.Optional(hedge),
    session: Type.Optional(session),
    rollout: Type.Optional(rollout),
    mirror: Type.Optional(MirrorTargets),
    fault: Type.Optional(fault),
    bodyBytes: Type.Optional(
      size("Bytes of a request body, at most the listener's limit.", { none: true, default: 'none' }),
    ),
    encodedSlashes: Type.Optional(
      choice(
        ['refuse', 'keep'],
        '`refuse` answers 400 to a path with `%2F`, `%5C` or `\\`; `keep` lets it through as it is.',
        { default: 'refuse' },
      ),
    ),
  },
  'One route; exactly one of `to`, `redirect` and `respond`.',
);

export const routes = list(route, 'The routes. Their order never decides: the most specific one wins.', {
  default: [],
  example: [{ name: 'orders', match: [{ path: '/orders' }], to: 'orders' }],
});

// The schema of how the requests for a service are spread over its endpoints, how many there may be, and which endpoints count.
import * as Type from 'typebox/type';
import { OutlierOptions } from '../policies/outlier-detection.ts';
import { choice, duration, flag, integer, list, object, share, text } from '../schema-parts.ts';

const hashKey = (description: string) =>
  object(
    {
      header: Type.Optional(text('The value of this request header.', { example: 'x-user', minLength: 1 })),
      cookie: Type.Optional(text('The value of this cookie.', { example: 'user', minLength: 1 })),
      query: Type.Optional(text('The value of this query parameter.', { example: 'user', minLength: 1 })),
      clientAddress: Type.Optional(Type.Literal(true, { description: "The client's address.", examples: [true] })),
    },
    description,
    { minProperties: 1, maxProperties: 1, example: { header: 'x-user' } },
  );

export const loadBalancing = Type.Union(
  [
    choice(
      ['least-request', 'round-robin', 'random', 'peak-ewma'],
      '`least-request`: of two endpoints drawn at random the one with fewer requests in flight per weight. `peak-ewma`: of two, the one with the lower product of latency and requests in flight.',
    ),
    object(
      {
        'ring-hash': Type.Optional(
          hashKey('By consistent hashing on a ring: requests with the same key reach the same endpoint.'),
        ),
        maglev: Type.Optional(
          hashKey('The same by a Maglev table: more even than a ring, and a few more keys move when endpoints change.'),
        ),
      },
      'By a key of the request.',
      { minProperties: 1, maxProperties: 1 },
    ),
  ],
  {
    description: 'Which endpoint gets the next request. Weights count with every algorithm.',
    default: 'least-request',
    examples: ['peak-ewma', { 'ring-hash': { header: 'x-user' } }],
  },
);

export const locality = object(
  {
    zone: Type.Optional(
      text('The zone that this process runs in. Empty: unknown, and zones do not count.', {
        default: '',
        example: 'eu-1a',
      }),
    ),
    prefer: Type.Optional(
      flag('Endpoints of the same zone first, as long as they can carry the load; the others take the rest.', {
        default: true,
      }),
    ),
  },
  'Whether near endpoints are preferred.',
  { default: {}, example: { zone: 'eu-1a' } },
);

export const slowStart = object(
  {
    window: Type.Optional(
      duration('Time in which an endpoint that is new or back comes from a tenth of its weight to all of it.', {
        none: true,
        default: '30s',
      }),
    ),
  },
  'Warming up of endpoints that are new or back. Not given: they have their full weight at once.',
  { example: { window: '30s' } },
);

export const connections = object(
  {
    max: Type.Optional(integer('Connections to one endpoint.', { minimum: 1, maximum: 65_535, default: 1_024 })),
    pending: Type.Optional(
      integer(
        'Requests that may wait for a connection to one endpoint, and for an endpoint at all; past it, 503 at once.',
        { minimum: 0, maximum: 1_000_000, default: 1_024 },
      ),
    ),
    requests: Type.Optional(
      integer('Requests under way to the service; past it, 503 at once.', {
        minimum: 1,
        maximum: 1_000_000,
        default: 1_024,
      }),
    ),
    retries: Type.Optional(
      integer('Retries and hedges under way to the service; past it, there is no further one.', {
        minimum: 0,
        maximum: 1_000_000,
        default: 1_024,
      }),
    ),
    connectTimeout: Type.Optional(duration('Time to connect, TLS included.', { none: true, default: '5s' })),
    idleTimeout: Type.Optional(
      duration(
        'Time that an idle connection is kept. With `protocol: tcp`: time without a byte either way, and not given `1h`.',
        { none: true, default: '60s' },
      ),
    ),
    waitForEndpoint: Type.Optional(
      duration(
        'How long a request may wait while no endpoint is up (the only one restarts), among `pending` others at most.',
        { none: true, default: '0s' },
      ),
    ),
  },
  'Bounds on the connections and requests to the service.',
  { default: {}, example: { max: 100 } },
);

export const concurrency = object(
  {
    adaptive: Type.Optional(
      flag('Whether the limit follows the latency. `false`: the limits of `connections` alone.', { default: true }),
    ),
    min: Type.Optional(
      integer('The limit never falls below this. Not given: 8, or `max` when that is less.', {
        minimum: 1,
        maximum: 1_000_000,
        example: 8,
      }),
    ),
    max: Type.Optional(
      integer('The limit never rises above this. Not given: `connections.requests`.', {
        minimum: 1,
        maximum: 1_000_000,
        example: 200,
      }),
    ),
  },
  'A limit on the requests under way that falls as the service becomes slower and rises as it becomes faster. Not given: none beside `connections`.',
  { example: { adaptive: true } },
);

export const healthCheck = Type.Union(
  [
    Type.Literal(false, { description: 'Endpoints are not probed.' }),
    object(
      {
        http: Type.Optional(
          object(
            {
              path: Type.Optional(
                text('Path of the GET request, with a query where it needs one.', {
                  default: '/healthz',
                  minLength: 1,
                }),
              ),
              host: Type.Optional(
                text('The Host header. Not given: the address of the endpoint.', {
                  example: 'orders.internal',
                  minLength: 1,
                }),
              ),
              status: Type.Optional(
                list(integer('A status.', { minimum: 200, maximum: 599, example: 200 }), 'Statuses that are healthy.', {
                  minItems: 1,
                  default: [200],
                  example: [200, 204],
                }),
              ),
            },
            'By a request.',
            { example: { path: '/healthz' } },
          ),
        ),
        tcp: Type.Optional(object({}, 'By a connection alone, without TLS.', { example: {} })),
        grpc: Type.Optional(
          object(
            {
              service: Type.Optional(
                text('The name that is asked for. Empty: the whole server.', { default: '', example: 'shop.Orders' }),
              ),
            },
            'By the gRPC health checking protocol (grpc.health.v1).',
            { example: {} },
          ),
        ),
        interval: Type.Optional(duration('From one probe of an endpoint to the next.', { default: '3s' })),
        timeout: Type.Optional(duration('Time for the answer, at most `interval`.', { default: '1s', example: '1s' })),
        unhealthyAfter: Type.Optional(
          integer('Failures in a row after which an endpoint is left out.', { minimum: 1, maximum: 1_000, default: 3 }),
        ),
        healthyAfter: Type.Optional(
          integer('Successes in a row after which it is back.', { minimum: 1, maximum: 1_000, default: 1 }),
        ),
      },
      'How endpoints are probed; exactly one of `http`, `tcp` and `grpc`.',
    ),
  ],
  {
    description: 'Probes that every endpoint gets beside its requests. Not given: none.',
    examples: [{ http: { path: '/healthz' } }],
  },
);

export const outlierDetection = Type.Union(
  [Type.Literal(false, { description: 'No endpoint is left out for what its responses were.' }), OutlierOptions],
  {
    description: 'When an endpoint that fails is left out for a while.',
    default: {},
    examples: [{ consecutive5xx: 3 }],
  },
);

export const retryBudget = object(
  {
    share: Type.Optional(share('Retries as a share of the requests of the window.', { default: '20%' })),
    window: Type.Optional(duration('Whole seconds, 1 to 60.', { default: '10s' })),
    minPerSecond: Type.Optional(
      integer('Retries a second that are allowed whatever the share.', { minimum: 0, maximum: 1_000_000, default: 10 }),
    ),
  },
  'How many retries and hedges all requests to the service may make together. Past it, the first response goes through.',
  { default: {}, example: { share: '10%' } },
);

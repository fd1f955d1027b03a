// The one source of what a config may say: types, validation, defaults, editor completion and the reference all come from here.
import * as Type from 'typebox/type';
import { choice, duration, flag, integer, list, named, object, port, share, text } from '../schema-parts.ts';
import { authorization } from './schema-authorization.ts';
import { egress } from './schema-egress.ts';
import { gateways } from './schema-gateway.ts';
import { mesh } from './schema-mesh.ts';
import { routes } from './schema-route.ts';
import { services } from './schema-service.ts';

const admin = Type.Union(
  [
    Type.Literal(false, { description: 'No admin API.' }),
    object(
      {
        host: Type.Optional(
          text('Address to listen on. The admin API has no password: keep it on loopback.', {
            default: '127.0.0.1',
            minLength: 1,
          }),
        ),
        port: Type.Optional(
          Type.Union(
            [port('`0`: any free one.', { example: 9901 }), Type.Literal(false, { description: 'No admin API.' })],
            {
              description: 'Port to listen on.',
              default: 9901,
            },
          ),
        ),
      },
      'Where the admin API listens.',
    ),
  ],
  { description: 'The admin API: health, metrics and what is running.', default: {}, examples: [{ port: 9901 }] },
);

const accessLog = Type.Union(
  [
    Type.Literal(false, { description: 'No access log.' }),
    object(
      {
        format: Type.Optional(choice(['json'], 'One JSON object a line.', { default: 'json' })),
        sample: Type.Optional(share('Share of the requests that are logged.', { default: '100%' })),
        always: Type.Optional(
          list(
            Type.Union([
              Type.Literal('errors', {
                description: 'Responses with a status from 500, and whatever Selvedge answered itself.',
              }),
              object({ slow: duration('Responses that took longer.', { example: '1s' }) }, 'Slow responses.'),
            ]),
            'What is logged whatever `sample` says.',
            { default: ['errors', { slow: '1s' }], example: ['errors'] },
          ),
        ),
        redact: Type.Optional(
          list(Type.String(), 'Headers whose values are never written.', { default: ['authorization', 'cookie'] }),
        ),
        fields: Type.Optional(
          named(Type.String(), 'Fixed fields of every line.', { default: {}, example: { region: 'eu-1' } }),
        ),
        headers: Type.Optional(
          list(Type.String(), 'Request headers that are written.', { default: [], example: ['user-agent'] }),
        ),
      },
      'How requests are logged.',
    ),
  ],
  { description: 'One line a request on stdout.', default: {}, examples: [{ sample: '10%' }] },
);

/** Seconds. */
export const DEFAULT_BUCKETS: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

const metrics = object(
  {
    buckets: Type.Optional(
      list(
        Type.Number({ exclusiveMinimum: 0 }),
        'Upper bounds of the duration histograms in seconds, ascending. Empty: the default.',
        {
          default: DEFAULT_BUCKETS,
          example: [0.1, 1],
        },
      ),
    ),
    maxSeries: Type.Optional(
      integer('Series of all metrics together; past it, new ones are left out and counted.', {
        minimum: 100,
        default: 20_000,
      }),
    ),
  },
  'Prometheus metrics at `/metrics` of the admin API.',
  { default: {}, example: { maxSeries: 5000 } },
);

const tracing = Type.Union(
  [
    Type.Literal(false, { description: 'No tracing: trace headers pass like any other.' }),
    object(
      {
        otlp: text(
          'Base URL of an OTLP/HTTP collector; spans go to its `/v1/traces` as JSON. `https:` is verified by the authorities of the system.',
          { example: 'http://127.0.0.1:4318', minLength: 1 },
        ),
        sample: Type.Optional(
          share('Share of the requests that are recorded, of those about which no trusted caller has decided.', {
            default: '5%',
          }),
        ),
        propagate: Type.Optional(
          list(
            choice(['w3c', 'b3', 'b3multi'], 'A convention of headers.'),
            'Headers that carry the context, asked in this order and all of them written: `w3c` (`traceparent`), `b3` (one header), `b3multi` (`x-b3-*`).',
            { default: ['w3c'], example: ['w3c', 'b3'], minItems: 1 },
          ),
        ),
        headers: Type.Optional(
          named(Type.String(), 'Headers for the collector. Their values are never shown.', {
            default: {},
            example: { 'x-tenant': 'acme' },
            secret: true,
          }),
        ),
        trustParent: Type.Optional(
          flag(
            "Whether gateways go by their callers' decision to sample, as hops always do. Without it strangers do not decide how much is recorded; their traces go on in either case.",
            { default: false },
          ),
        ),
      },
      'How requests are traced.',
    ),
  ],
  {
    description: 'Distributed tracing: one trace for a request through edge, hops and applications.',
    examples: [{ otlp: 'http://127.0.0.1:4318' }],
  },
);

const MAX_WORKERS = 64;

const countOrAuto = Type.Unsafe<number | string>({
  type: ['string', 'integer'],
  pattern: '^(?:auto|[1-9]|[1-5]\\d|6[0-4])$',
  minimum: 1,
  maximum: MAX_WORKERS,
  patternErrorMessage: `must be a whole number from 1 to ${MAX_WORKERS}, or auto`,
  description:
    'Processes that serve the same listeners: `auto` is one for each core that this process may use. Read at start. For `selvedge run`: the library serves with the process that calls it.',
  default: 1,
  examples: ['auto'],
});

export const ConfigSchema = Type.Object(
  {
    version: Type.Literal(1, { description: 'Version of this format.', examples: [1] }),
    mesh: Type.Optional(mesh),
    admin: Type.Optional(admin),
    telemetry: Type.Optional(
      object(
        { accessLog: Type.Optional(accessLog), metrics: Type.Optional(metrics), tracing: Type.Optional(tracing) },
        'What is recorded.',
        {
          default: {},
          example: { accessLog: { sample: '10%' } },
        },
      ),
    ),
    drain: Type.Optional(
      object(
        {
          grace: Type.Optional(
            duration('From failing readiness to closing the listeners, so that load balancers notice.', {
              default: '5s',
            }),
          ),
          timeout: Type.Optional(duration('Time that requests in flight get after that.', { default: '30s' })),
        },
        'What SIGTERM gives time for.',
        { default: {}, example: { grace: '0s' } },
      ),
    ),
    redis: Type.Optional(
      object(
        {
          url: text('`redis://` or, with TLS, `rediss://`; user, password and number of the database as usual there.', {
            example: 'redis://127.0.0.1:6379',
            pattern: '^rediss?://',
            expected: 'a redis:// or rediss:// URL',
          }),
          timeout: Type.Optional(
            duration('How long a request waits for it; then the limit does as its `onStoreFailure` says.', {
              default: '80ms',
              example: '50ms',
            }),
          ),
        },
        'Where all processes count together, by plugins that say `shared: true`.',
        { example: { url: 'redis://127.0.0.1:6379' } },
      ),
    ),
    workers: Type.Optional(countOrAuto),
    gateways: Type.Optional(gateways),
    services: Type.Optional(services),
    routes: Type.Optional(routes),
    egress: Type.Optional(egress),
    authorization: Type.Optional(authorization),
  },
  {
    additionalProperties: false,
    title: 'Selvedge config',
    description: 'One config for the whole mesh: edge gateways, services with their hops, and routes.',
  },
);

/** The schema as a document of its own, selvedge.schema.json: also takes `${NAME}` wherever it stands for something stricter than text. */
export function jsonSchema(): Record<string, unknown> {
  const { properties, ...rest } = JSON.parse(JSON.stringify(ConfigSchema)) as { properties: Record<string, unknown> };
  const { version, ...others } = properties;
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    ...rest,
    properties: {
      $schema: { type: 'string', description: 'Where this schema lies, for editors.' },
      version,
      ...(orReference(others) as object),
    },
  };
}

const REFERENCE = {
  type: 'string',
  pattern: '\\$\\{.+\\}',
  description: 'A reference to an environment variable or a file.',
};

function orReference(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(orReference);
  if (typeof schema !== 'object' || schema === null) return schema;
  const node = schema as Readonly<Record<string, unknown>>;
  const strict =
    ['integer', 'number', 'boolean'].includes(String(node.type)) ||
    node.enum !== undefined ||
    node.pattern !== undefined;
  if (!strict) {
    const data = new Set(['default', 'examples', 'const', 'required', 'propertyNames']);
    return Object.fromEntries(
      Object.entries(node).map(([key, value]) => [key, data.has(key) ? value : orReference(value)]),
    );
  }
  const { description, default: fallback, examples, ...checks } = node;
  return { description, default: fallback, examples, anyOf: [checks, REFERENCE] };
}

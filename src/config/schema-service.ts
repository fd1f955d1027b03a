// The schema of what requests go to: services, their endpoints and internal hops.
import * as Type from 'typebox/type';
import {
  choice,
  flag,
  HOST_PORT_EXPECTED,
  integer,
  list,
  NAME_KEY,
  named,
  object,
  plugins,
  port,
  SERVICE_KEY,
  text,
} from '../schema-parts.ts';
import { serviceAuthorization } from './schema-authorization.ts';
import {
  concurrency,
  connections,
  healthCheck,
  loadBalancing,
  locality,
  outlierDetection,
  retryBudget,
  slowStart,
} from './schema-balancing.ts';
import { mtls } from './schema-mesh.ts';

const hostPort = (description: string, example: string) => text(description, { example, expected: HOST_PORT_EXPECTED });

const labels = (description: string) => named(Type.String(), description, { default: {}, example: { version: 'v2' } });

const endpoint = object(
  {
    address: hostPort('`host:port` of the application.', '127.0.0.1:3000'),
    hop: Type.Optional(
      hostPort('`host:port` of the internal hop in front of it; peers dial that instead.', '10.0.0.6:15001'),
    ),
    weight: Type.Optional(
      integer('Share of the requests relative to the other endpoints. `0`: none.', {
        minimum: 0,
        maximum: 1_000_000,
        default: 1,
      }),
    ),
    zone: Type.Optional(
      text('The zone that it runs in. Not given: none that is known.', { example: 'eu-1a', minLength: 1 }),
    ),
    priority: Type.Optional(
      integer('`0` is used first; the next as those before it fail.', { minimum: 0, maximum: 127, default: 0 }),
    ),
    labels: Type.Optional(labels('What `subsets` select by.')),
  },
  'An endpoint with more to say than its address.',
);

const upstreamTls = object(
  {
    serverName: Type.Optional(
      text('Name that is asked for (SNI) and verified. Not given: the host of the endpoint.', {
        example: 'orders.example.com',
        minLength: 1,
      }),
    ),
    ca: Type.Optional(
      text("PEM file with the authorities to trust. Not given: the system's.", { example: 'ca.crt', minLength: 1 }),
    ),
    cert: Type.Optional(
      text('PEM file with the client certificate, when the service asks for one.', {
        example: 'client.crt',
        minLength: 1,
      }),
    ),
    key: Type.Optional(text('PEM file with its key.', { example: 'client.key', minLength: 1 })),
    verify: Type.Optional(
      flag(
        'Whether the certificate of the service is verified. `false` is for tests: anyone in between can read and change everything.',
        { default: true },
      ),
    ),
  },
  'TLS to the endpoints, in detail.',
);

const internal = object(
  {
    inbound: object(
      {
        host: Type.Optional(text('Address to listen on.', { default: '0.0.0.0', minLength: 1 })),
        port: port('Port to listen on.', { example: 15_001 }),
      },
      'Where peers connect to reach the application behind the hop.',
      { example: { port: 15_001 } },
    ),
    outbound: Type.Optional(
      object(
        {
          host: Type.Optional(
            text('Address to listen on; only the local application should reach it.', {
              default: '127.0.0.1',
              minLength: 1,
            }),
          ),
          port: port('Port to listen on.', { example: 15_002 }),
          ports: Type.Optional(
            named(
              hostPort('`host:port` to listen on.', '127.0.0.1:7001'),
              'Local ports that lead to one service whatever the Host header says, by service; the only way to one with `protocol: tcp`.',
              {
                default: {},
                example: { inventory: '127.0.0.1:7001' },
              },
            ),
          ),
        },
        'Where the application connects to reach other services: by Host header, or as an HTTP proxy.',
        { example: { port: 15_002 } },
      ),
    ),
    app: Type.Optional(
      hostPort(
        '`host:port` of the local application. Not given: every endpoint whose `hop` is this inbound address.',
        '127.0.0.1:3000',
      ),
    ),
  },
  'The internal hop of this service: what `selvedge run --internal SERVICE` runs.',
  { example: { inbound: { port: 15_001 }, outbound: { port: 15_002 } } },
);

const service = object(
  {
    endpoints: list(
      Type.Union([hostPort('The address alone.', '10.0.0.5:3000'), endpoint]),
      'Where the service runs.',
      {
        minItems: 1,
        example: ['10.0.0.5:3000', { address: '10.0.0.6:3000', weight: 2 }],
      },
    ),
    subsets: Type.Optional(
      named(
        named(Type.String(), 'Labels that an endpoint must carry, all of them.', { example: { version: 'v2' } }),
        'Parts of the service that routes can name, by labels.',
        {
          default: {},
          keys: NAME_KEY,
          example: { v1: { version: 'v1' }, v2: { version: 'v2' } },
        },
      ),
    ),
    protocol: Type.Optional(
      choice(
        ['http1', 'tcp'],
        'What the endpoints speak. `tcp`: anything else, passed on as it is; applications reach the service by a local port of their hop (`internal.outbound.ports`).',
        { default: 'http1' },
      ),
    ),
    tls: Type.Optional(
      Type.Union([Type.Boolean({ description: "`true`: TLS verified by the system's authorities." }), upstreamTls], {
        description: 'TLS to endpoints that are dialled directly. Not given: plain.',
        examples: [true],
      }),
    ),
    mtls: Type.Optional(
      mtls('As `mesh.mtls`, between the hop of this service and its callers; not given: as the mesh says.'),
    ),
    internal: Type.Optional(internal),
    plugins: Type.Optional(plugins('The inbound chain at the hop of this service.')),
    authorization: Type.Optional(serviceAuthorization),
    loadBalancing: Type.Optional(loadBalancing),
    locality: Type.Optional(locality),
    slowStart: Type.Optional(slowStart),
    connections: Type.Optional(connections),
    concurrency: Type.Optional(concurrency),
    healthCheck: Type.Optional(healthCheck),
    outlierDetection: Type.Optional(outlierDetection),
    retryBudget: Type.Optional(retryBudget),
  },
  'One service: a name for endpoints that are all the same.',
  { example: { endpoints: ['127.0.0.1:3000'] } },
);

export const services = named(service, 'The services, by name.', {
  default: {},
  keys: SERVICE_KEY,
  example: { orders: { endpoints: ['127.0.0.1:3000'] } },
});

// The schema of what stands at the edge: gateways, their listeners and limits.
import * as Type from 'typebox/type';
import {
  choice,
  countOrNone,
  duration,
  flag,
  integer,
  list,
  NAME_KEY,
  name,
  named,
  object,
  plugins,
  port,
  rate,
  size,
  text,
} from '../schema-parts.ts';

function limitKeys(defaults: boolean) {
  const or = (value: unknown) => (defaults ? { default: value } : { example: value });
  return {
    headerBytes: Type.Optional(size('Bytes of all request headers together; past it, 431.', or('32KiB'))),
    headerCount: Type.Optional(
      integer('Number of request headers; past it, 431.', { minimum: 1, maximum: 10_000, ...or(100) }),
    ),
    urlBytes: Type.Optional(size('Bytes of the request target; past it, 414.', or('8KiB'))),
    bodyBytes: Type.Optional(
      size('Bytes of a request body, declared or counted; past it, 413. A route can lower it.', {
        none: true,
        ...or('none'),
      }),
    ),
    headerTimeout: Type.Optional(
      duration('Time for all request headers to arrive; past it, 408.', { none: true, ...or('10s') }),
    ),
    bodyIdleTimeout: Type.Optional(
      duration('Longest pause inside a request body; past it, 408.', { none: true, ...or('30s') }),
    ),
    bodyMinRate: Type.Optional(
      rate('Slowest pace of a request body, after 5 s of grace; past it, 408. `0`: none.', or('240B/s')),
    ),
    keepAliveTimeout: Type.Optional(
      duration('Time that an idle client connection is kept.', { none: true, ...or('72s') }),
    ),
    tlsHandshakeTimeout: Type.Optional(duration('Time for a TLS handshake.', { none: true, ...or('10s') })),
    connections: Type.Optional(
      integer('Open client connections of one listener; past it, new ones are closed.', { minimum: 1, ...or(10_000) }),
    ),
    connectionsPerClient: Type.Optional(
      countOrNone(
        'Those of one address (IPv6: of one /64); past it, new ones are closed. `trustedProxies` have no such bound. `none`: none.',
        or('none'),
      ),
    ),
  };
}

export const limits = object(
  limitKeys(true),
  'Bounds on what a client may send and how slowly; a listener can set its own.',
  {
    default: {},
    example: { bodyBytes: '10MiB' },
  },
);

const listenerLimits = object(limitKeys(false), 'Bounds of this listener; what is not said here, the gateway says.', {
  example: { headerTimeout: '5s' },
});

export const clientAddress = object(
  {
    trustedProxies: Type.Optional(
      list(Type.String(), 'Networks whose forwarding header is believed. None: the client is the TCP peer.', {
        default: [],
        example: ['10.0.0.0/8'],
      }),
    ),
    header: Type.Optional(
      text('The header that lists the addresses, nearest last.', { default: 'x-forwarded-for', minLength: 1 }),
    ),
    hops: Type.Optional(
      integer('How many trusted proxies stand in front. Not given: as many as `trustedProxies` matches.', {
        minimum: 1,
        maximum: 32,
        example: 1,
      }),
    ),
    proxyProtocol: Type.Optional(
      flag(
        'Connections of `trustedProxies` begin with a PROXY header (version 1 or 2) that says who the client is; one without it is closed.',
        { default: false },
      ),
    ),
  },
  'How the address of the client is found.',
  { default: {}, example: { trustedProxies: ['10.0.0.0/8'] } },
);

const certificate = object(
  {
    cert: text('PEM file with the certificate and its chain.', { example: 'edge.crt', minLength: 1 }),
    key: text('PEM file with the private key, not encrypted.', { example: 'edge.key', minLength: 1 }),
  },
  'A certificate and its key. Both files are watched and rotated in place.',
);

const listenerTls = object(
  {
    certificates: list(
      certificate,
      'Chosen by the server name that the client asks for; the first one when none fits.',
      {
        minItems: 1,
        example: [{ cert: 'edge.crt', key: 'edge.key' }],
      },
    ),
    minVersion: Type.Optional(
      choice(['TLSv1.2', 'TLSv1.3'], 'Oldest TLS version that is spoken.', { default: 'TLSv1.2' }),
    ),
    clientCertificate: Type.Optional(
      object(
        {
          ca: text('PEM file with the authorities that may have signed it.', {
            example: 'clients-ca.crt',
            minLength: 1,
          }),
          mode: Type.Optional(
            choice(
              ['require', 'request'],
              '`require` ends the handshake without a valid certificate; `request` lets plugins decide.',
              {
                default: 'require',
              },
            ),
          ),
        },
        'Asks clients for a certificate; the verified one becomes `request.selvedge.peer`.',
        { example: { ca: 'clients-ca.crt' } },
      ),
    ),
  },
  'Makes this an HTTPS listener.',
  { example: { certificates: [{ cert: 'edge.crt', key: 'edge.key' }] } },
);

const redirect = Type.Union(
  [
    Type.Literal('https'),
    object(
      {
        scheme: choice(['https'], 'Where to: `https`, the only one.'),
        port: Type.Optional(
          port('The port that clients reach. Not given: that of the first listener with `tls`, else 443.', {
            any: false,
            example: 443,
          }),
        ),
      },
      'As `https`, to a port of its own: the one outside often differs from the one that the process listens on.',
    ),
  ],
  {
    description: 'Sends every request here to https: the same host, path and query. Not together with `tls`.',
    examples: ['https'],
  },
);

const listener = object(
  {
    name: name('Unique in its gateway; routes choose listeners by it.', 'https'),
    host: Type.Optional(text('Address to listen on.', { default: '0.0.0.0', minLength: 1 })),
    port: port('Port to listen on. `0`: any free one.', { example: 8443 }),
    tls: Type.Optional(listenerTls),
    redirect: Type.Optional(redirect),
    limits: Type.Optional(listenerLimits),
    plugins: Type.Optional(
      plugins('What runs at this listener, after the plugins of the gateway and before those of the route.'),
    ),
  },
  'One address that clients connect to.',
);

const errorPages = named(
  Type.Union([
    Type.String({ minLength: 1, description: 'A file whose name ends in .html or .json.' }),
    object(
      {
        html: Type.Optional(
          text(
            'For clients that want HTML rather than JSON. What begins with `<` is the page itself, anything else a file.',
            {
              example: 'pages/404.html',
              minLength: 1,
            },
          ),
        ),
        json: Type.Optional(
          text(
            'Instead of the problem document. What begins with `{` or `[` is the text itself, anything else a file.',
            {
              example: '{"error":"{{code}}","request":"{{requestId}}"}',
              minLength: 1,
            },
          ),
        ),
      },
      'By what the client would rather have.',
      { minProperties: 1 },
    ),
  ]),
  'What the gateway says when it answers by itself, by status (`404`) or class (`4xx`, `5xx`). Placeholders: `{{status}}`, `{{title}}`, `{{code}}`, `{{detail}}`, `{{requestId}}`. Files are watched.',
  {
    keys: Type.String({
      pattern: '^[45](?:\\d\\d|xx)$',
      patternErrorMessage: 'must be a status such as 404, or 4xx or 5xx',
    }),
    example: { 404: 'pages/404.html', '5xx': { html: '<h1>{{title}}</h1><p>{{requestId}}</p>' } },
  },
);

const gateway = object(
  {
    clientAddress: Type.Optional(clientAddress),
    limits: Type.Optional(limits),
    listeners: list(listener, 'The addresses of this gateway.', {
      minItems: 1,
      example: [{ name: 'http', port: 8080 }],
    }),
    errorPages: Type.Optional(errorPages),
    plugins: Type.Optional(
      plugins('The chain of every route here, before the plugins of the listener and of the route itself.'),
    ),
  },
  'One edge gateway: what `selvedge run --gateway NAME` runs.',
  { example: { listeners: [{ name: 'http', port: 8080 }] } },
);

export const gateways = named(gateway, 'The edge gateways, by name: traffic from outside enters here.', {
  default: {},
  keys: NAME_KEY,
  example: { public: { listeners: [{ name: 'http', port: 8080 }] } },
});

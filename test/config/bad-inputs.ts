// Configs with mistakes, and the lines that each must be answered with: read by load.test.ts. `~` stands for the config's file.

/** What most cases need around the one thing that is wrong. Twelve lines. */
const BASE = `version: 1
gateways:
  public:
    listeners:
      - { name: http, port: 8080 }
services:
  orders:
    endpoints: ["10.0.0.5:3000"]
    subsets: { v1: {} }
routes:
  - name: orders
    to: orders
`;

export interface BadInput {
  readonly name: string;
  readonly text: string;
  readonly lines: readonly string[];
}

function whole(name: string, text: string, ...lines: string[]): BadInput {
  return { name, text, lines };
}

/** `BASE` with further keys of its route, which begin on line 13. */
function route(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: `${BASE}${indent(keys, 4)}`, lines };
}

/** `BASE` without `to`, for routes that do something else; keys begin on line 12. */
function bare(name: string, keys: string, ...lines: string[]): BadInput {
  const text = BASE.replace('    to: orders\n', '');
  return { name, text: `${text}${indent(keys, 4)}`, lines: [...lines, '~:7:3 warning: services.orders: no route leads to service "orders"'] };
}

/** `BASE` with further keys of its service, on line 10 and after. */
function service(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: BASE.replace('routes:\n', `${indent(keys, 4)}routes:\n`), lines };
}

/** `BASE` with further keys of its gateway, on line 6 and after. */
function gateway(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: BASE.replace('services:\n', `${indent(keys, 4)}services:\n`), lines };
}

/** `BASE` with further keys at the top, on line 13 and after. */
function top(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: `${BASE}${keys}\n`, lines };
}

function indent(keys: string, by: number): string {
  return keys.split('\n').map((line) => `${' '.repeat(by)}${line}\n`).join('');
}

export const BAD_INPUTS: readonly BadInput[] = [
  // Files
  whole('an empty file', ''),
  whole('a file of comments', '# nothing yet\n'),
  whole('a list', '- a\n- b\n'),
  whole('a single value', 'hello\n'),
  whole('a tab as indentation', 'version: 1\ngateways:\n\tpublic: {}\n'),
  whole('an unclosed bracket', 'version: 1\ngateways: { public: [\n'),
  whole('duplicate keys', BASE.replace('services:', 'version: 1\nservices:')),
  whole('a duplicate service', BASE.replace('routes:', '  orders: {}\nroutes:')),
  whole('an unknown alias', 'version: 1\nservices: *nowhere\n'),
  whole('an unknown tag', 'version: !!js/function 1\n'),
  whole('a Kubernetes document', 'apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n'),
  whole('nothing to run', 'version: 1\n'),
  whole('a missing version', BASE.replace('version: 1\n', '')),
  whole('another version', BASE.replace('version: 1', 'version: 2')),
  // References
  route('a missing variable', 'rewrite: { host: "${ORDERS_HOST}" }'),
  route('a broken reference', 'rewrite: { host: "${ORDERS HOST}", prefix: "${X" }'),
  route('a missing file', 'requestHeaders: { set: { x-key: "${file:secret.txt}" } }'),
  gateway('a variable that is no number', 'limits: { headerCount: ${NAME} }'),
  // Shape
  top('an unknown key at the top', 'gatways: {}'),
  route('unknown keys in a route', 'timeouts: { request: 1s }\nhost: [a]'),
  gateway('a wrong type in a gateway', 'limits: 5'),
  gateway('numbers out of range', 'limits: { headerCount: 0, connections: 1.5 }'),
  gateway('a bare number as duration', 'limits: { headerTimeout: 10 }'),
  gateway('malformed units', 'limits: { headerTimeout: 10 seconds, headerBytes: 1 K, bodyMinRate: fast, bodyBytes: nothing }'),
  gateway('a duration of part of a millisecond', 'limits: { headerTimeout: 0.1ms }'),
  gateway('a duration beyond timers', 'limits: { headerTimeout: 30d }'),
  route('methods that are no list', 'match: [{ methods: GET }]'),
  route('a number as query value', 'match: [{ query: { debug: 1 } }]'),
  route('two conditions for one header', 'match: [{ headers: { x-a: { exact: a, prefix: b } } }]'),
  route('no condition for a path', 'match: [{ path: {} }]'),
  route('a path of the wrong type', 'match: [{ path: [/a] }]'),
  route('an enum value nearly right', 'encodedSlashes: keeep'),
  top('a name with a space', 'x: 1'),
  whole('names of the wrong form', BASE.replace('  public:', '  "pub lic":').replace('  orders:', '  Orders:').replace('name: orders', 'name: -x')),
  whole('a listener without port', BASE.replace(', port: 8080', '')),
  whole('an endpoint of the wrong type', BASE.replace('["10.0.0.5:3000"]', '[3000]')),
  whole('no endpoints', BASE.replace('["10.0.0.5:3000"]', '[]')),
  top('a wrong admin', 'admin: yes'),
  // Names
  whole('an unknown service', BASE.replace('to: orders', 'to: ordrs')),
  route('an unknown subset', 'plugins: []').text === '' ? whole('', '') : whole('an unknown subset', BASE.replace('to: orders', 'to: { service: orders, subset: v2 }')),
  route('an unknown gateway and listener', 'gateways: [pubic]'),
  route('an unknown listener', 'listeners: [htttp]'),
  whole('two routes with one name', `${BASE}  - { name: orders, match: [{ path: /x }], to: orders }\n`),
  // Listeners
  gateway('a trusted proxy that is no network', 'clientAddress: { trustedProxies: [10.0.0.0/33, example.com] }'),
  gateway('an address nobody can listen on', 'admin: false').text === '' ? whole('', '') : whole('an address nobody can listen on', BASE.replace('name: http,', 'name: http, host: "a b",')),
  whole('two listeners on one address', BASE.replace('services:', '      - { name: again, host: 127.0.0.1, port: 8080 }\nservices:')),
  top('a listener on the port of the admin API', 'admin: { port: 8080 }'),
  gateway('a plugin switched off where nothing is inherited', 'plugins: [cors: false]'),
  // Services
  whole('an endpoint as URL', BASE.replace('10.0.0.5:3000', 'https://orders.internal/')),
  whole('a port that is none', BASE.replace('10.0.0.5:3000', '10.0.0.5:99999')),
  service('a subset that selects nothing', 'loadBalancing: least-request').text === '' ? whole('', '') : whole('a subset that selects nothing', BASE.replace('v1: {}', 'v1: { version: v1 }')),
  whole('endpoints without weight', BASE.replace('["10.0.0.5:3000"]', '[{ address: "10.0.0.5:3000", weight: 0 }]')),
  service('a certificate without key', 'tls: { cert: client.crt }'),
  service('a hop without mtls', 'internal: { inbound: { port: 15001 }, app: "127.0.0.1:3000" }'),
  service('a hop with nothing behind it', 'internal: { inbound: { port: 15001 } }'),
  // Routes
  bare('a route that leads nowhere', 'hosts: [a.example]'),
  route('two actions', 'respond: { status: 200 }'),
  whole('weights that sum to zero', BASE.replace('to: orders', 'to: [{ service: orders, weight: 0 }]')),
  route('hosts of the wrong form', 'hosts: ["*", "a.*.com", "a.com:80", "a b"]'),
  route('paths of the wrong form', 'match: [{ path: orders }, { path: /a?b }, { path: /a%2Fb }]'),
  route('regexes that backtrack', 'match: [{ path: { regex: "/(a)\\\\1" } }, { headers: { x-a: { regex: "(?=a)" } } }]'),
  route('methods that are none', 'match: [{ methods: [get, GTE, CONNECT] }]'),
  route('header names of the wrong form', 'match: [{ headers: { "x a": b } }]\nrequestHeaders: { set: { "x b": c, connection: close }, remove: [transfer-encoding] }'),
  route('a prefix that replaces nothing', 'match: [{ path: { exact: /a } }]\nrewrite: { prefix: /b }'),
  route('a prefix beside a path', 'rewrite: { prefix: /b, path: c }'),
  bare('a redirect to itself', 'redirect: { status: 301 }'),
  bare('a body where none may be', 'respond: { status: 204, body: x }'),
  bare('a rewrite that has no effect', 'respond: { status: 200 }\nrewrite: { path: /x }'),
  route('gateways and internal', 'internal: [orders]\ngateways: [public]'),
  // Not supported
  top('parts of the format that are not there yet', 'redis: { url: "redis://x" }\nmesh: { mtls: strict, trustDomain: x }\nworkers: auto'),
  service('services that are not there yet', 'protocol: grpc\nloadBalancing: { ring-hash: { header: x } }\nhealthCheck: {}\ndiscover: { dns: x }'),
  route('routes that are not there yet', 'retry: { attempts: 2 }\nmirror: []\nmatch: [{ from: [service/a] }]'),
  // Together
  whole('everything at once', BASE.replace('port: 8080', 'port: high').replace('to: orders', 'to: ordres\n    timeout: { request: soon }').replace('subsets: { v1: {} }', 'tls: { cert: a }')),
];

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
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
  return { name, text: `${text}${indent(keys, 4)}`, lines };
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
  return keys
    .split('\n')
    .map((line) => `${' '.repeat(by)}${line}\n`)
    .join('');
}

export const BAD_INPUTS: readonly BadInput[] = [
  // Files
  whole('an empty file', '', '~ an empty config is invalid: "selvedge init" writes one to start from'),
  whole(
    'a file of comments',
    '# nothing yet\n',
    '~ an empty config is invalid: "selvedge init" writes one to start from',
  ),
  whole(
    'a list',
    '- a\n- b\n',
    '~:1:1 a config is a map of keys such as version, gateways, services and routes, not a list',
  ),
  whole(
    'a single value',
    'hello\n',
    '~:1:1 a config is a map of keys such as version, gateways, services and routes, not a single value',
  ),
  whole('a tab as indentation', 'version: 1\ngateways:\n\tpublic: {}\n', '~:3:1 a tab cannot indent YAML: use spaces'),
  whole(
    'an unclosed bracket',
    'version: 1\ngateways: { public: [\n',
    '~:3:1 not valid YAML: flow sequence in block collection must be sufficiently indented and end with a ]',
  ),
  whole(
    'duplicate keys',
    BASE.replace('services:', 'version: 1\nservices:'),
    '~:6:1 "version" is set twice, first at ~:1:1',
  ),
  whole(
    'a duplicate service',
    BASE.replace('routes:', '  orders: {}\nroutes:'),
    '~:10:3 "orders" is set twice, first at ~:7:3',
  ),
  whole('an unknown alias', 'version: 1\nservices: *nowhere\n', '~:2:11 no anchor "&nowhere" stands before this alias'),
  whole(
    'an unknown tag',
    'version: !!js/function 1\n',
    '~:1:10 not valid YAML: unresolved tag: tag:yaml.org,2002:js/function',
  ),
  whole(
    'a Kubernetes document',
    'apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n',
    '~:1:1 Kubernetes documents (apiVersion, kind) are not supported by this version',
  ),
  whole(
    'nothing to run',
    'version: 1\n',
    '~:1:1 gateways: nothing to run: define a gateway here, or a hop by "internal" of a service',
  ),
  whole('a missing version', BASE.replace('version: 1\n', ''), '~:1:1 "version" is missing'),
  whole('another version', BASE.replace('version: 1', 'version: 2'), '~:1:10 version: must be 1, not 2'),
  // References
  route(
    'a missing variable',
    'rewrite: { host: "${ORDERS_HOST}" }',
    '~:13:22 routes[0].rewrite.host: environment variable ORDERS_HOST is not set; set it, or give a default: ${ORDERS_HOST:-…}',
  ),
  route(
    'broken references',
    'rewrite:\n  host: "${ORDERS HOST}"\n  prefix: "${X"',
    '~:14:13 routes[0].rewrite.host: "${ORDERS HOST}" is not a reference: write ${NAME}, ${NAME:-default} or ${file:path}, or $${ for a literal ${',
    '~:15:15 routes[0].rewrite.prefix: "${X" has no closing brace; write $${ for a literal ${',
  ),
  route(
    'a reference inside a default',
    'rewrite: { host: "${HOST:-${NAME}}" }',
    '~:13:22 routes[0].rewrite.host: the default of ${HOST} cannot contain another reference',
  ),
  route(
    'a file that is a directory',
    'rewrite: { host: "${file:.}" }',
    '~:13:22 routes[0].rewrite.host: "." of ${file:…} is not a regular file',
  ),
  route(
    'a missing file',
    'requestHeaders: { set: { x-key: "${file:secret.txt}" } }',
    '~:13:37 routes[0].requestHeaders.set.x-key: "secret.txt" of ${file:…} cannot be read: no such file',
  ),
  gateway(
    'a variable that is no number',
    'limits: { headerCount: ${NAME} }',
    '~:6:28 gateways.public.limits.headerCount: must be a whole number, not "many"',
  ),
  route(
    'aliases that blow up',
    'plugins:\n  - x: { a: &a [1,1,1,1,1,1,1,1,1,1], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d] }',
    '~:14:25 its aliases stand for more than 100000 values',
  ),
  top('an alias of itself', 'admin: &a { port: *a }', '~:13:11 nested more than 64 deep'),
  top('deep nesting', `admin: ${'['.repeat(100)}${']'.repeat(100)}`, '~:13:72 nested more than 64 deep'),
  // Shape
  top('an unknown key at the top', 'gatways: {}', '~:13:1 gatways: unknown key "gatways" (did you mean "gateways"?)'),
  route(
    'unknown keys in a route',
    'timeouts: { request: 1s }\nhost: [a]',
    '~:13:5 routes[0].timeouts: unknown key "timeouts" (did you mean "timeout"?)',
    '~:14:5 routes[0].host: unknown key "host" (did you mean "hosts"?)',
  ),
  gateway('a wrong type in a gateway', 'limits: 5', '~:6:13 gateways.public.limits: must be a map, not 5'),
  gateway(
    'numbers out of range',
    'limits: { headerCount: 0, connections: 1.5 }',
    '~:6:28 gateways.public.limits.headerCount: must be at least 1, not 0',
    '~:6:44 gateways.public.limits.connections: must be a whole number, not 1.5',
  ),
  gateway(
    'a bare number as duration',
    'limits: { headerTimeout: 10 }',
    '~:6:30 gateways.public.limits.headerTimeout: must be a duration such as 250ms, 10s or 5m (0s: none), not 10 without a unit',
  ),
  gateway(
    'malformed units',
    'limits: { headerTimeout: 10 seconds, headerBytes: 1 K, bodyMinRate: fast, bodyBytes: nothing }',
    '~:6:30 gateways.public.limits.headerTimeout: must be a duration such as 250ms, 10s or 5m (0s: none), not "10 seconds"',
    '~:6:55 gateways.public.limits.headerBytes: must be a size such as 512B, 64KiB or 1MiB, not "1 K"',
    '~:6:73 gateways.public.limits.bodyMinRate: must be a rate such as 240B/s, or 0, not "fast"',
    '~:6:90 gateways.public.limits.bodyBytes: must be a size such as 512B, 64KiB or 1MiB, or none, not "nothing"',
  ),
  gateway(
    'a duration of part of a millisecond',
    'limits: { headerTimeout: 0.1ms }',
    '~:6:30 gateways.public.limits.headerTimeout: "0.1ms" is not a duration of whole milliseconds up to 24 days (250ms, 10s, 5m, 1h30m)',
  ),
  gateway(
    'a duration beyond timers',
    'limits: { headerTimeout: 30d }',
    '~:6:30 gateways.public.limits.headerTimeout: "30d" is not a duration of whole milliseconds up to 24 days (250ms, 10s, 5m, 1h30m)',
  ),
  route(
    'methods that are no list',
    'match: [{ methods: GET }]',
    '~:13:24 routes[0].match[0].methods: must be a list, not "GET"',
  ),
  route(
    'a number as query value',
    'match: [{ query: { debug: 1 } }]',
    '~:13:31 routes[0].match[0].query.debug: must be text or a map with exact, prefix, regex, present or absent, not 1: put it in quotes, "1"',
  ),
  route(
    'two conditions for one header',
    'match: [{ headers: { x-a: { exact: a, prefix: b } } }]',
    '~:13:31 routes[0].match[0].headers.x-a: must have exactly one of exact, prefix, regex, present or absent',
  ),
  route(
    'no condition for a path',
    'match: [{ path: {} }]',
    '~:13:21 routes[0].match[0].path: must have exactly one of exact, prefix or regex',
  ),
  route(
    'a path of the wrong type',
    'match: [{ path: [/a] }]',
    '~:13:21 routes[0].match[0].path: must be text or a map with exact, prefix or regex, not a list',
  ),
  route(
    'an enum value nearly right',
    'encodedSlashes: keeep',
    '~:13:21 routes[0].encodedSlashes: must be refuse or keep, not "keeep" (did you mean "keep"?)',
  ),
  whole(
    'names of the wrong form',
    BASE.replace('  public:', '  "pub lic":').replace('  orders:', '  Orders:').replace('name: orders', 'name: -x'),
    '~:3:3 gateways.pub lic: "pub lic" must be a name of 1 to 63 letters, digits, "-", "_" and "."',
    '~:7:3 services.Orders: "Orders" must be a name of 1 to 63 lower-case letters, digits, "-", "_" and "."',
    '~:11:11 routes[0].name: must be a name of 1 to 63 letters, digits, "-", "_" and ".", not "-x"',
  ),
  whole(
    'a listener without port',
    BASE.replace(', port: 8080', ''),
    '~:5:9 gateways.public.listeners[0]: "port" is missing',
  ),
  whole(
    'an endpoint of the wrong type',
    BASE.replace('["10.0.0.5:3000"]', '[3000]'),
    '~:8:17 services.orders.endpoints[0]: must be host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000 or a map with address, hop, weight or labels, not 3000',
  ),
  whole(
    'no endpoints',
    BASE.replace('["10.0.0.5:3000"]', '[]'),
    '~:8:16 services.orders.endpoints: must have at least one item',
  ),
  top('a wrong admin', 'admin: yes', '~:13:8 admin: must be false or a map with host or port, not "yes"'),
  // Names
  whole(
    'an unknown service',
    BASE.replace('to: orders', 'to: ordrs'),
    '~:12:9 routes[0].to: no service "ordrs" (did you mean "orders"?)',
  ),
  whole(
    'an unknown subset',
    BASE.replace('to: orders', 'to: { service: orders, subset: v2 }'),
    '~:12:36 routes[0].to.subset: service "orders" has no subset "v2" (did you mean "v1"?)',
  ),
  route(
    'an unknown gateway and listener',
    'gateways: [pubic]',
    '~:13:16 routes[0].gateways[0]: no gateway "pubic" (did you mean "public"?)',
  ),
  route(
    'an unknown listener',
    'listeners: [htttp]',
    '~:13:17 routes[0].listeners[0]: no listener "htttp" in gateway "public" (did you mean "http"?)',
  ),
  whole(
    'two routes with one name',
    `${BASE}  - { name: orders, match: [{ path: /x }], to: orders }\n`,
    '~:13:13 routes[1].name: another route has the name "orders", at ~:11:11',
  ),
  // Listeners
  gateway(
    'a trusted proxy that is no network',
    'clientAddress: { trustedProxies: [10.0.0.0/33, example.com] }',
    '~:6:39 gateways.public.clientAddress.trustedProxies[0]: "10.0.0.0/33" is not a network: write an address or a CIDR such as 10.0.0.0/8',
    '~:6:52 gateways.public.clientAddress.trustedProxies[1]: "example.com" is not a network: write an address or a CIDR such as 10.0.0.0/8',
  ),
  whole(
    'an address nobody can listen on',
    BASE.replace('name: http,', 'name: http, host: "a b",'),
    '~:5:29 gateways.public.listeners[0].host: "a b" is not an IP address or host name to listen on; the port goes into "port"',
  ),
  whole(
    'two listeners on one address',
    BASE.replace('services:', '      - { name: again, host: 127.0.0.1, port: 8080 }\nservices:'),
    '~:6:47 gateways.public.listeners[1].port: listener "again" of gateway "public" and listener "http" of gateway "public" listen on addresses that overlap, 127.0.0.1:8080 and 0.0.0.0:8080',
  ),
  top(
    'a listener on the port of the admin API',
    'admin: { port: 8080 }',
    '~:5:29 gateways.public.listeners[0].port: listener "http" of gateway "public" and the admin API listen on addresses that overlap, 0.0.0.0:8080 and 127.0.0.1:8080',
  ),
  gateway(
    'a plugin switched off where nothing is inherited',
    'plugins: [cors: false]',
    '~:6:15 gateways.public.plugins[0]: only a route can switch a plugin off; leave it out here',
  ),
  // Services
  whole(
    'an endpoint as URL',
    BASE.replace('10.0.0.5:3000', 'https://orders.internal/'),
    '~:8:17 services.orders.endpoints[0]: "https://orders.internal/" is not host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000; leave out "https://" and say "tls: true" in the service',
  ),
  whole(
    'a port that is none',
    BASE.replace('10.0.0.5:3000', '10.0.0.5:99999'),
    '~:8:17 services.orders.endpoints[0]: "10.0.0.5:99999" is not host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000',
  ),
  whole(
    'a subset that selects nothing',
    BASE.replace('v1: {}', 'v1: { version: v1 }'),
    '~:9:20 warning: services.orders.subsets.v1: subset "v1" selects no endpoint of "orders"',
  ),
  whole(
    'endpoints without weight',
    BASE.replace('["10.0.0.5:3000"]', '[{ address: "10.0.0.5:3000", weight: 0 }]'),
    '~:8:16 services.orders.endpoints: every endpoint has weight 0, so none would get a request',
  ),
  service(
    'a certificate without key',
    'tls: { cert: client.crt }',
    '~:10:10 services.orders.tls: "cert" and "key" belong together; one of them is missing',
  ),
  service(
    'a hop without mtls',
    'internal: { inbound: { port: 15001 }, app: "127.0.0.1:3000" }',
    '~:10:15 mesh.mtls: a config with hops must say "mtls: off": this version does not encrypt what goes between hops',
  ),
  service(
    'a hop with nothing behind it',
    'internal: { inbound: { port: 15001 } }',
    '~:10:15 services.orders.internal: nothing stands behind this hop: name it by "app", or by "hop" of an endpoint',
    '~:10:15 mesh.mtls: a config with hops must say "mtls: off": this version does not encrypt what goes between hops',
  ),
  // Routes
  bare(
    'a route that leads nowhere',
    'hosts: [a.example]',
    '~:11:5 routes[0]: leads nowhere: it needs one of "to", "redirect" and "respond"',
  ),
  route(
    'two actions',
    'respond: { status: 200 }',
    '~:13:14 routes[0].respond: a route has one of "to", "redirect" and "respond", not several',
  ),
  whole(
    'weights that sum to zero',
    BASE.replace('to: orders', 'to: [{ service: orders, weight: 0 }]'),
    '~:12:9 routes[0].to: the weights sum to zero, so no request could go anywhere',
  ),
  route(
    'hosts of the wrong form',
    'hosts: ["*", "a.*.com", "a.com:80", "a b"]',
    '~:13:13 routes[0].hosts[0]: "*" stands for any host: leave "hosts" out instead',
    '~:13:18 routes[0].hosts[1]: "a.*.com" is not a host: "*." is possible only as the first label',
    '~:13:29 routes[0].hosts[2]: "a.com:80" is not a host: leave out the port, "listeners" chooses by port',
    '~:13:41 routes[0].hosts[3]: "a b" is not a host name',
  ),
  route(
    'paths of the wrong form',
    'match: [{ path: orders }, { path: /a?b }, { path: /a%2Fb }]',
    '~:13:21 routes[0].match[0].path: "orders" is not a path: it begins with "/" and has no "?", "#", space or broken escape',
    '~:13:39 routes[0].match[1].path: "/a?b" is not a path: it begins with "/" and has no "?", "#", space or broken escape',
    '~:13:55 routes[0].match[2].path: "/a%2Fb" has an encoded slash, which only a route with "encodedSlashes: keep" lets through',
  ),
  route(
    'regexes that backtrack',
    'match: [{ path: { regex: "/(a)\\\\1" } }, { headers: { x-a: { regex: "(?=a)" } } }]',
    '~:13:30 routes[0].match[0].path.regex: "/(a)\\1" is not an RE2 expression: invalid escape sequence: `\\1`; lookaround and backreferences cannot run in linear time, use several matches instead',
    '~:13:72 routes[0].match[1].headers.x-a.regex: "(?=a)" is not an RE2 expression: invalid or unsupported Perl syntax: `(?=`; lookaround and backreferences cannot run in linear time, use several matches instead',
  ),
  route(
    'methods that are none',
    'match: [{ methods: [get, GTE, CONNECT] }]',
    '~:13:25 routes[0].match[0].methods[0]: "get" is not a method that HTTP servers of Node read; write "GET"',
    '~:13:30 routes[0].match[0].methods[1]: "GTE" is not a method that HTTP servers of Node read (did you mean "GET"?)',
    '~:13:35 routes[0].match[0].methods[2]: CONNECT asks for a tunnel and never reaches a route',
  ),
  route(
    'header names of the wrong form',
    'match: [{ headers: { "x a": b } }]\nrequestHeaders: { set: { "x b": c, connection: close }, remove: [transfer-encoding] }',
    '~:13:33 routes[0].match[0].headers.x a: "x a" is not the name of a header',
    '~:14:37 routes[0].requestHeaders.set.x b: "x b" is not a header name',
    '~:14:52 routes[0].requestHeaders.set.connection: "connection" belongs to the connection and is set by Selvedge',
    '~:14:70 routes[0].requestHeaders.remove[0]: "transfer-encoding" belongs to the connection and is set by Selvedge',
  ),
  route(
    'a prefix that replaces nothing',
    'match: [{ path: { exact: /a } }]\nrewrite: { prefix: /b }',
    '~:14:24 routes[0].rewrite.prefix: needs every match of the route to be a path prefix; there is nothing else that it could replace',
  ),
  route(
    'a prefix beside a path',
    'rewrite: { prefix: /b, path: c }',
    '~:13:24 routes[0].rewrite.prefix: replaces a part of what "path" replaces: say one of them',
    '~:13:34 routes[0].rewrite.path: "c" is not a path: it begins with "/" and has no "?", "#" or space',
  ),
  bare(
    'a redirect to itself',
    'redirect: { status: 301 }',
    '~:12:15 routes[0].redirect: would send every request to itself: it needs one of "scheme", "host", "port", "path" and "prefix"',
  ),
  bare(
    'a body where none may be',
    'respond: { status: 204, body: x }',
    '~:12:35 routes[0].respond.body: a response with status 204 has no body',
  ),
  bare(
    'a rewrite that has no effect',
    'respond: { status: 200 }\nrewrite: { path: /x }',
    '~:7:3 warning: services.orders: no route leads to service "orders"',
    '~:13:14 warning: routes[0].rewrite: has no effect on a route without "to"',
  ),
  route(
    'gateways and internal',
    'internal: [orders]\ngateways: [public]',
    '~:13:15 warning: routes[0].internal: no hop has an "outbound", so no call ever takes this route',
    '~:14:15 routes[0].gateways: a route is for gateways or for calls between services ("internal"), not for both',
  ),
  // Not supported
  top(
    'parts of the format that are not there yet',
    'redis: { url: "redis://x" }\nmesh: { mtls: strict, trustDomain: x }\nworkers: auto',
    '~:13:1 redis: not supported by this version',
    '~:14:15 mesh.mtls: "strict" is not supported by this version',
    '~:14:23 mesh.trustDomain: not supported by this version',
    '~:15:10 workers: "auto" is not supported by this version',
  ),
  service(
    'services that are not there yet',
    'protocol: grpc\nloadBalancing: { ring-hash: { header: x } }\nhealthCheck: {}\ndiscover: { dns: x }',
    '~:10:15 services.orders.protocol: "grpc" is not supported by this version',
    '~:11:20 services.orders.loadBalancing: "ring-hash" is not supported by this version',
    '~:12:5 services.orders.healthCheck: not supported by this version',
    '~:13:5 services.orders.discover: not supported by this version',
  ),
  route(
    'routes that are not there yet',
    'retry: { attempts: 2 }\nmirror: []\nmatch: [{ from: [service/a] }]',
    '~:13:5 routes[0].retry: not supported by this version',
    '~:14:5 routes[0].mirror: not supported by this version',
    '~:15:15 routes[0].match[0].from: not supported by this version',
  ),
  top(
    'listeners that are not there yet',
    'authorization: []\negress: {}\ntelemetry: { tracing: {} }',
    '~:13:1 authorization: not supported by this version',
    '~:14:1 egress: not supported by this version',
    '~:15:14 telemetry.tracing: not supported by this version',
  ),
  gateway(
    'limits that are not there yet',
    'limits: { http2: { streams: 1 } }\nerrorPages: {}',
    '~:6:15 gateways.public.limits.http2: not supported by this version',
    '~:7:5 gateways.public.errorPages: not supported by this version',
  ),
  // Together
  whole(
    'everything at once',
    BASE.replace('port: 8080', 'port: high')
      .replace('to: orders', 'to: ordres\n    timeout: { request: soon }')
      .replace('subsets: { v1: {} }', 'tls: { cert: a }'),
    '~:5:29 gateways.public.listeners[0].port: must be a whole number, not "high"',
    '~:9:10 services.orders.tls: "cert" and "key" belong together; one of them is missing',
    '~:12:9 routes[0].to: no service "ordres" (did you mean "orders"?)',
    '~:13:25 routes[0].timeout.request: must be a duration such as 250ms, 10s or 5m (0s: none), not "soon"',
  ),
];

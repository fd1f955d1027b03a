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

/** `BASE` with two subsets and further keys of its route, which begin on line 13. */
function rollout(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: `${BASE.replace('v1: {}', 'v1: {}, v2: {}')}${indent(keys, 4)}`, lines };
}

/** The same with another `to`. */
function rolloutTo(name: string, to: string, keys: string, ...lines: string[]): BadInput {
  const { text } = rollout(name, keys);
  return { name, text: text.replace('to: orders', `to: ${to}`), lines };
}

/** One service with a hop. Eight lines. */
const HOPS = `version: 1
mesh: { mtls: off }
services:
  orders:
    endpoints: [{ address: "127.0.0.1:3000", hop: "127.0.0.1:15001" }]
    internal:
      inbound: { port: 15001 }
      outbound: { port: 15002 }
`;

/** `HOPS` with keys of `egress`, which begin on line 10. */
function egress(name: string, keys: string, ...lines: string[]): BadInput {
  return { name, text: `${HOPS}egress:\n${indent(keys, 2)}`, lines };
}

/** A service `orders` with a hop, a gateway and a route to `/orders`; then policies, one a line from line 13 on. */
function policies(name: string, items: readonly string[], ...lines: string[]): BadInput {
  const text = `version: 1
mesh: { mtls: off }
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
services:
  orders:
    endpoints: [{ address: "10.0.0.5:3000", hop: "10.0.0.5:15001" }]
    internal: { inbound: { port: 15001 } }
  plain: { endpoints: ["10.0.0.6:3000"] }
routes:
  - { name: orders, match: [{ path: /orders }], to: orders }
  - { name: plain, match: [{ path: /plain }], to: plain }
authorization:
${items.map((item) => `  - ${item}\n`).join('')}`;
  return { name, text, lines };
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
    '~:8:17 services.orders.endpoints[0]: must be host:port, such as 10.0.0.5:3000, orders.internal:80 or [::1]:3000 or a map with address, hop, weight, zone, priority or labels, not 3000',
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
  gateway(
    'a PROXY header that nobody may send',
    'clientAddress: { proxyProtocol: true }',
    '~:6:37 gateways.public.clientAddress.proxyProtocol: nobody may send a PROXY header: name the addresses of the load balancer in "trustedProxies"',
  ),
  gateway(
    'connections of a client that are no number',
    'limits: { connectionsPerClient: 0, connections: 5 }',
    '~:6:37 gateways.public.limits.connectionsPerClient: must be at least 1, not 0',
  ),
  gateway(
    'connections of a client in words',
    'limits: { connectionsPerClient: many }',
    '~:6:37 gateways.public.limits.connectionsPerClient: must be a whole number from 1 on, or none, not "many"',
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
    '~:6:15 gateways.public.plugins[0]: only a listener or a route can switch a plugin off; leave it out here',
  ),
  whole(
    'plugins that are locked, and what would get around that',
    `version: 1
gateways:
  public:
    plugins:
      - { rate-limit: { max: 5, window: 1m }, locked: true }
      - { retry: {}, locked: true }
      - { cors: { origins: ["*"] }, locked: false }
    listeners:
      - { name: http, port: 8080, plugins: [rate-limit: false, cors: false, core: false] }
      - { name: https, port: 8081, plugins: [{ ip-rules: { allow: [10.0.0.0/8] }, locked: true }] }
services: { orders: { endpoints: ["a:1"], plugins: [cors: false, { metrics: {}, locked: true }] } }
routes:
  - { name: a, to: orders, plugins: [rate-limit: { max: 9, window: 1s }, ip-rules: false, access-log: false, load-shed: false] }
  - { name: b, match: [path: /b], listeners: [http], to: orders, retry: { attempts: 2 }, plugins: [ip-rules: { deny: [10.0.0.0/8] }] }
  - { name: c, match: [path: /c], to: orders, plugins: [{ fault: { abort: { status: 503 } }, locked: true }] }
`,
    '~:9:45 gateways.public.listeners[0].plugins[0]: gateway "public", ~:5:9, locks "rate-limit": it can be neither replaced nor switched off here, and is switched off',
    '~:9:77 warning: gateways.public.listeners[0].plugins[2]: switches off a plugin that this gateway does not have (did you mean "cors"?)',
    '~:11:53 services.orders.plugins[0]: only a listener or a route can switch a plugin off; leave it out here',
    '~:11:89 services.orders.plugins[1].locked: a service cannot lock a plugin: no list inherits its plugins; leave it out here',
    '~:13:38 routes[0].plugins[0]: gateway "public", ~:5:9, locks "rate-limit": it can be neither replaced nor switched off here, and is replaced',
    '~:13:74 routes[0].plugins[1]: listener "https" of gateway "public", ~:10:46, locks "ip-rules": it can be neither replaced nor switched off here, and is switched off',
    '~:13:110 warning: routes[0].plugins[3]: switches off a plugin that no gateway or listener of this route has',
    '~:14:73 routes[1].retry: gateway "public", ~:6:9, locks "retry": it can be neither replaced nor switched off here, and is replaced',
    '~:15:102 routes[2].plugins[0].locked: a route cannot lock a plugin: no list inherits its plugins; leave it out here',
  ),
  route(
    'items of a plugin list that name no plugin, or two',
    'plugins: [locked, { locked: true }, { cors: {}, jwt: {} }, { cors: {}, jwt: {}, locked: true }, {}]',
    '~:13:15 routes[0].plugins[0]: "locked" stands beside a plugin, such as { jwt: { … }, locked: true }',
    '~:13:23 routes[0].plugins[1]: must have exactly one key beside "locked", the name of the plugin',
    '~:13:41 routes[0].plugins[2]: must have exactly one key, the name of the plugin',
    '~:13:64 routes[0].plugins[3]: must have exactly one key beside "locked", the name of the plugin',
    '~:13:101 routes[0].plugins[4]: must have exactly one key, the name of the plugin',
  ),
  gateway(
    'a lock on nothing, and one that is neither on nor off',
    'plugins: [{ cors: {}, locked: 7 }]',
    '~:6:35 gateways.public.plugins[0].locked: must be true or false, not 7',
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
    'a hop with nothing behind it',
    'internal: { inbound: { port: 15001 } }',
    '~:10:15 services.orders.internal: nothing stands behind this hop: name it by "app", or by "hop" of an endpoint',
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
  // Balancing, health and bounds of services
  service(
    'a hash without a key',
    'loadBalancing: ring-hash',
    '~:10:20 services.orders.loadBalancing: "ring-hash" is not enough by its name: write { ring-hash: … }',
  ),
  service(
    'two algorithms',
    'loadBalancing: { ring-hash: { header: x }, maglev: { header: x } }',
    '~:10:20 services.orders.loadBalancing: must have exactly one of ring-hash or maglev',
  ),
  service(
    'two keys of a hash',
    'loadBalancing: { ring-hash: { header: x, cookie: y } }',
    '~:10:33 services.orders.loadBalancing.ring-hash: must have exactly one of header, cookie, query or clientAddress',
  ),
  service(
    'a hash of nothing',
    'loadBalancing: { maglev: {} }',
    '~:10:30 services.orders.loadBalancing.maglev: must have exactly one of header, cookie, query or clientAddress',
  ),
  service(
    'an unknown key of a hash',
    'loadBalancing: { maglev: { headr: x } }',
    '~:10:32 services.orders.loadBalancing.maglev.headr: unknown key "headr" (did you mean "header"?)',
  ),
  service(
    'names of a hash that are none',
    'loadBalancing: { maglev: { header: "x y" } }',
    '~:10:40 services.orders.loadBalancing.maglev.header: "x y" is not the name of a header',
  ),
  service(
    'a hash by no client address',
    'loadBalancing: { maglev: { clientAddress: false } }',
    '~:10:47 services.orders.loadBalancing.maglev.clientAddress: must be true, not false',
  ),
  service(
    'an algorithm nearly right',
    'loadBalancing: round-robbin',
    '~:10:20 services.orders.loadBalancing: must be least-request, round-robin, random or peak-ewma, not "round-robbin" (did you mean "round-robin"?)',
  ),
  service(
    'zones that nothing is in',
    'locality: { zone: eu-1a }',
    '~:10:15 warning: services.orders.locality: has no effect: no endpoint of this service says in which "zone" it is',
  ),
  service(
    'near endpoints that nobody knows',
    'locality: { prefer: true }',
    '~:10:15 warning: services.orders.locality: has no effect: no endpoint of this service says in which "zone" it is',
  ),
  whole(
    'an endpoint in no zone and of no priority',
    BASE.replace('["10.0.0.5:3000"]', '[{ address: "10.0.0.5:3000", zone: "", priority: 128 }]'),
    '~:8:51 services.orders.endpoints[0].zone: must not be empty',
    '~:8:65 services.orders.endpoints[0].priority: must be at most 127, not 128',
  ),
  service(
    'a slow start of no time',
    'slowStart: { window: fast }',
    '~:10:26 services.orders.slowStart.window: must be a duration such as 250ms, 10s or 5m (0s: none), not "fast"',
  ),
  service(
    'a queue of no room',
    'connections: { pending: 0, waitForEndpoint: 5s }',
    '~:10:49 services.orders.connections.waitForEndpoint: needs room to wait in, and "pending" is 0: set that above 0, or leave this out',
  ),
  service(
    'bulkheads out of range',
    'connections: { requests: 0, retries: -1 }',
    '~:10:30 services.orders.connections.requests: must be at least 1, not 0',
    '~:10:42 services.orders.connections.retries: must be at least 0, not -1',
  ),
  service(
    'concurrency upside down',
    'concurrency: { min: 50, max: 10 }',
    '~:10:25 services.orders.concurrency.min: is above "max" (10)',
  ),
  service(
    'concurrency above the requests',
    'connections: { requests: 5 }\nconcurrency: { min: 8, max: 20 }',
    '~:11:33 warning: services.orders.concurrency.max: is never reached: "requests" of "connections" (5) comes first',
  ),
  service(
    'concurrency that is not in force and still wrong',
    'connections: { requests: 5 }\nconcurrency: { adaptive: false, min: 8 }',
    '~:11:42 services.orders.concurrency.min: is above "requests" of "connections" (5)',
  ),
  service(
    'a health check of nothing',
    'healthCheck: { interval: 2s }',
    '~:10:18 services.orders.healthCheck: says nothing of how endpoints are probed: it needs one of "http", "tcp" and "grpc"',
  ),
  service(
    'two kinds of health check',
    'healthCheck: { http: {}, tcp: {} }',
    '~:10:35 services.orders.healthCheck.tcp: a health check has one of "http", "tcp" and "grpc", not several',
  ),
  service(
    'a health check longer than its interval',
    'healthCheck: { tcp: {}, interval: 2s, timeout: 3s }',
    '~:10:52 services.orders.healthCheck.timeout: is longer than "interval" (2s): the next probe would begin before this one ends',
  ),
  service(
    'an interval shorter than the timeout that was not said',
    'healthCheck: { tcp: {}, interval: 500ms }',
    '~:10:39 services.orders.healthCheck.interval: is shorter than "timeout" (1s): the next probe would begin before the one before ends',
  ),
  service(
    'a health check at once',
    'healthCheck: { tcp: {}, interval: 0s, timeout: 0s }',
    '~:10:39 services.orders.healthCheck.interval: must be longer than 0',
    '~:10:52 services.orders.healthCheck.timeout: must be longer than 0',
  ),
  service(
    'statuses and paths that are none',
    'healthCheck: { http: { path: healthz, host: "a b", status: [99, 600] } }',
    '~:10:34 services.orders.healthCheck.http.path: "healthz" is not a path: it begins with "/" and has no "#", space or character beyond ASCII',
    '~:10:49 services.orders.healthCheck.http.host: "a b" is not a host, with or without a port',
    '~:10:65 services.orders.healthCheck.http.status[0]: must be at least 200, not 99',
    '~:10:69 services.orders.healthCheck.http.status[1]: must be at most 599, not 600',
  ),
  service(
    'a health check that is healthy at once',
    'healthCheck: { http: { path: "/a b" }, healthyAfter: 0, unhealthyAfter: 0 }',
    '~:10:34 services.orders.healthCheck.http.path: "/a b" is not a path: it begins with "/" and has no "#", space or character beyond ASCII',
    '~:10:58 services.orders.healthCheck.healthyAfter: must be at least 1, not 0',
    '~:10:77 services.orders.healthCheck.unhealthyAfter: must be at least 1, not 0',
  ),
  service(
    'a health check by yes',
    'healthCheck: true',
    '~:10:18 services.orders.healthCheck: must be false or a map, not true',
  ),
  service(
    'an unknown kind of health check',
    'healthCheck: { htpp: {} }',
    '~:10:20 services.orders.healthCheck.htpp: unknown key "htpp" (did you mean "http"?)',
  ),
  service(
    'the only endpoint ejected',
    'outlierDetection: { maxEjected: 100% }',
    '~:10:37 services.orders.outlierDetection.maxEjected: the last endpoint is never ejected, and this service has only one: 100% can never be out',
  ),
  service(
    'outliers of one endpoint',
    'outlierDetection: { consecutive5xx: 3 }',
    '~:10:23 warning: services.orders.outlierDetection: never ejects anything: the last endpoint is never ejected, and this service has only one',
  ),
  service(
    'outliers out of range',
    'outlierDetection: { interval: 0s, baseEjection: 10m, maxEjected: 101%, panicThreshold: 200%, consecutive5xx: 0 }',
    '~:10:35 services.orders.outlierDetection.interval: must be longer than 0',
    '~:10:53 services.orders.outlierDetection.baseEjection: is longer than "maxEjection" (300s)',
    '~:10:70 services.orders.outlierDetection.maxEjected: "101%" is not a share from 0% to 100% (20%)',
    '~:10:92 services.orders.outlierDetection.panicThreshold: "200%" is not a share from 0% to 100% (20%)',
    '~:10:114 services.orders.outlierDetection.consecutive5xx: must be at least 1, not 0',
  ),
  service(
    'an ejection beyond timers',
    'outlierDetection: { interval: 0.1ms, maxEjection: 30d }',
    '~:10:35 services.orders.outlierDetection.interval: "0.1ms" is not a duration of whole milliseconds up to 24 days (250ms, 10s, 5m, 1h30m)',
    '~:10:55 services.orders.outlierDetection.maxEjection: "30d" is not a duration of whole milliseconds up to 24 days (250ms, 10s, 5m, 1h30m)',
  ),
  whole(
    'ejections that never come',
    BASE.replace(
      '["10.0.0.5:3000"]',
      '["10.0.0.5:3000", "10.0.0.6:3000", "10.0.0.7:3000"]\n    outlierDetection: { maxEjected: 20%, successRate: true }',
    ),
    '~:9:37 warning: services.orders.outlierDetection.maxEjected: never lets anything be ejected: 20% of 3 endpoints is less than one',
    '~:9:55 warning: services.orders.outlierDetection.successRate: is never judged: it takes 5 endpoints ("minEndpoints"), and there are 3',
  ),
  whole(
    'nothing may be ejected',
    BASE.replace('["10.0.0.5:3000"]', '["10.0.0.5:3000", "10.0.0.6:3000"]\n    outlierDetection: { maxEjected: 0% }'),
    '~:9:37 warning: services.orders.outlierDetection.maxEjected: never lets anything be ejected: 0% of 2 endpoints is less than one',
  ),
  service(
    'a budget of nothing',
    'retryBudget: { share: 0%, minPerSecond: 0 }',
    '~:10:18 warning: services.orders.retryBudget: allows no retry at all: neither "share" nor "minPerSecond" is above 0',
  ),
  service(
    'windows of a budget that are none',
    'retryBudget: { share: 120%, window: 1500ms }',
    '~:10:27 services.orders.retryBudget.share: "120%" is not a share from 0% to 100% (20%)',
    '~:10:41 services.orders.retryBudget.window: "1500ms" is not a window: whole seconds, 1s to 60s',
  ),
  service(
    'a window of a budget too long',
    'retryBudget: { window: 2m, minPerSecond: -1 }',
    '~:10:28 services.orders.retryBudget.window: "2m" is not a window: whole seconds, 1s to 60s',
    '~:10:46 services.orders.retryBudget.minPerSecond: must be at least 0, not -1',
  ),
  // Tries, sessions, rollouts and faults of routes
  route(
    'a try longer than the request',
    'timeout: { request: 1s, perTry: 2s }',
    '~:13:37 routes[0].timeout.perTry: is longer than "request" (1s), which would end every try before',
  ),
  route(
    'retries of the wrong form',
    'retry: { attempts: 11, on: [connect-failur, { status: [200] }, { grpc: [gone] }, { code: 5 }, status, {}] }',
    '~:13:24 routes[0].retry.attempts: must be at most 10, not 11',
    '~:13:33 routes[0].retry.on[0]: must be connect-failure, refused-stream, reset, per-try-timeout, gateway-error or 5xx, not "connect-failur" (did you mean "connect-failure"?)',
    '~:13:60 routes[0].retry.on[1].status[0]: must be at least 400, not 200',
    '~:13:77 routes[0].retry.on[2].grpc[0]: must be cancelled, unknown, deadline-exceeded, resource-exhausted, aborted, internal, unavailable or data-loss, not "gone"',
    '~:13:88 routes[0].retry.on[3].code: unknown key "code"',
    '~:13:99 routes[0].retry.on[4]: "status" is not enough by its name: write { status: … }',
    '~:13:107 routes[0].retry.on[5]: must have exactly one of status or grpc',
  ),
  route(
    'retries that make no sense',
    'retry: { backoff: 1s, methods: [get] }',
    '~:13:23 routes[0].retry.backoff: is longer than "maxBackoff" (250ms)',
    '~:13:37 routes[0].retry.methods[0]: "get" is not a method in capitals, such as GET',
  ),
  route(
    'retries that may do things twice',
    'retry: { on: [reset], methods: [GET, POST, PATCH] }',
    '~:13:42 warning: routes[0].retry.methods[1]: the service may act twice on a POST whose first try failed after it had arrived',
    '~:13:48 warning: routes[0].retry.methods[2]: the service may act twice on a PATCH whose first try failed after it had arrived',
  ),
  route(
    'retries for which no time is left',
    'retry: { on: [per-try-timeout] }',
    '~:13:19 warning: routes[0].retry.on[0]: never happens: a try may take all of "timeout.request"; set "timeout.perTry" below it',
  ),
  route(
    'retries for which all time is used',
    'retry: { on: [per-try-timeout] }\ntimeout: { request: 2s, perTry: 2s }',
    '~:13:19 warning: routes[0].retry.on[0]: never happens: a try may take all of "timeout.request"; set "timeout.perTry" below it',
  ),
  route(
    'retries on nothing',
    'retry: { on: [] }',
    '~:13:18 warning: routes[0].retry.on: names nothing, so nothing is tried again; "retry: false" says the same',
  ),
  route(
    'retries by yes',
    'retry: true',
    '~:13:12 routes[0].retry: must be false or a map with attempts, on, backoff, maxBackoff, methods or bufferBytes, not true',
  ),
  route(
    'hedges of the wrong form',
    'hedge: { after: soon }',
    '~:13:21 routes[0].hedge.after: must be a duration such as 200ms, or a percentile such as p95, not "soon"',
  ),
  route(
    'hedges beyond percentiles',
    'hedge: { after: p49 }',
    '~:13:21 routes[0].hedge.after: a percentile is from p50 to p99.9',
  ),
  route(
    'hedges at once',
    'hedge: { after: 0s }',
    '~:13:21 routes[0].hedge.after: would send every request twice; say a duration above 0, or a percentile',
  ),
  route(
    'hedges that come too late',
    'hedge: { after: 15s }',
    '~:13:21 routes[0].hedge.after: never comes: "timeout.request" has ended the first try by then',
  ),
  route(
    'hedges that come after the try',
    'timeout: { perTry: 1s }\nhedge: { after: 2s }',
    '~:14:21 routes[0].hedge.after: never comes: "timeout.perTry" has ended the first try by then',
  ),
  route(
    'hedges that send a POST twice',
    'match: [{ methods: [GET] }, { methods: [POST, PATCH], path: /x }]\nhedge: {}',
    '~:14:12 routes[0].hedge: would send POST and PATCH twice; give these methods a route without "hedge"',
  ),
  route('a session by nothing', 'session: {}', '~:13:14 routes[0].session: needs one of "cookie" and "header"'),
  route(
    'a session by two things',
    'session: { cookie: a, header: b }',
    '~:13:35 routes[0].session.header: a session has one of "cookie" and "header", not both',
  ),
  route(
    "a session by header with a cookie's keys",
    'session: { header: b, sameSite: lax, maxAge: 1h }',
    '~:13:27 routes[0].session.sameSite: has a meaning only together with "cookie"',
    '~:13:42 routes[0].session.maxAge: has a meaning only together with "cookie"',
  ),
  route(
    'names of sessions that are none',
    'session: { cookie: "a b" }',
    '~:13:24 routes[0].session.cookie: "a b" is not the name of a cookie',
  ),
  route(
    'a header of a session that is none',
    'session: { header: "a b" }',
    '~:13:24 routes[0].session.header: "a b" is not the name of a header',
  ),
  route(
    'cookies that browsers refuse',
    'session: { cookie: __Host-a, sameSite: none, secure: false }',
    '~:13:24 routes[0].session.cookie: browsers refuse a cookie "__Host-a" that is not secure',
    '~:13:44 routes[0].session.sameSite: browsers refuse a cookie with "sameSite: none" that is not secure',
  ),
  route(
    'a cookie of part of a second',
    'session: { cookie: a, maxAge: 500ms, secret: short }',
    '~:13:35 routes[0].session.maxAge: "500ms" is not an age of a cookie: whole seconds, up to 400d',
    '~:13:50 routes[0].session.secret: is too short: at least 16 characters, such as "openssl rand -hex 32" prints',
  ),
  route(
    'a cookie for ever',
    'session: { cookie: a, maxAge: 500d, secure: maybe }',
    '~:13:35 routes[0].session.maxAge: "500d" is not an age of a cookie: whole seconds, up to 400d',
    '~:13:49 routes[0].session.secure: must be true or false or "auto", not "maybe"',
  ),
  rollout(
    'a rollout between subsets that are not there',
    'rollout: { from: v0, to: v3, abortOn: { errorRate: 1% } }',
    '~:13:22 routes[0].rollout.from: service "orders" has no subset "v0" (did you mean "v1"?)',
    '~:13:30 routes[0].rollout.to: service "orders" has no subset "v3" (did you mean "v1"?)',
  ),
  rollout(
    'a rollout to itself',
    'rollout: { from: v1, to: v1, abortOn: { errorRate: 1% } }',
    '~:13:30 routes[0].rollout.to: is the subset that the requests come "from": there is nothing to move',
  ),
  rollout(
    'a rollout that goes back and forth',
    'rollout: { from: v1, to: v2, steps: [0%, 50%, 20%, 120%], every: 0s, abortOn: { p99: 0s } }',
    '~:13:42 routes[0].rollout.steps[0]: is no step: it must be above 0%',
    '~:13:51 routes[0].rollout.steps[2]: must be above the step before it (50%)',
    '~:13:56 routes[0].rollout.steps[3]: "120%" is not a share from 0% to 100% (20%)',
    '~:13:70 routes[0].rollout.every: must be longer than 0',
    '~:13:90 routes[0].rollout.abortOn.p99: must be longer than 0',
  ),
  rollout(
    'a rollout that stays',
    'rollout: { from: v1, to: v2, steps: [5%, 50%] }',
    '~:13:14 warning: routes[0].rollout.abortOn: names neither "errorRate" nor "p99": the rollout goes on however the new version does',
    '~:13:46 warning: routes[0].rollout.steps[1]: is the last step, and not 100%: the rollout stays there, with both versions in use',
  ),
  rollout(
    'a rollout with two spellings',
    'rollout: { from: v1, to: v2, abort: { p99: 1s }, abortOn: { p99: 1s } }',
    '~:13:41 routes[0].rollout.abort: is another spelling of "abortOn": say one of them',
  ),
  rollout(
    'a rollout that is not all there',
    'rollout: { from: v1, steps: [] }',
    '~:13:14 routes[0].rollout: "to" is missing',
    '~:13:33 routes[0].rollout.steps: must have at least one item',
  ),
  rolloutTo(
    'a rollout of a route with weights',
    '[{ service: orders, subset: v1 }, { service: orders, subset: v2 }]',
    'rollout: { from: v1, to: v2, abort: { p99: 1s } }',
    '~:13:14 routes[0].rollout: needs "to" to name one service: a rollout sets the weights itself, between two subsets of it',
  ),
  rolloutTo(
    'a rollout of a route to a subset',
    '{ service: orders, subset: v1 }',
    'rollout: { from: v1, to: v2, abort: { p99: 1s } }',
    '~:13:14 routes[0].rollout: needs "to" to name service "orders" without a subset: "from" and "to" of the rollout are its subsets',
  ),
  bare(
    'a rollout that leads nowhere',
    'respond: { status: 200 }\nrollout: { from: v1, to: v2, abort: { p99: 1s } }',
    '~:13:14 routes[0].rollout: needs a route with "to": it moves requests between subsets of a service',
  ),
  route(
    'mirrors to nowhere',
    'mirror: [{ service: ordrs }, { service: orders, subset: v2 }]',
    '~:13:25 routes[0].mirror[0].service: no service "ordrs" (did you mean "orders"?)',
    '~:13:61 routes[0].mirror[1].subset: service "orders" has no subset "v2" (did you mean "v1"?)',
  ),
  route(
    'a mirror that is where the route leads',
    'mirror: [{ service: orders }]',
    '~:13:14 warning: routes[0].mirror[0]: is where the route itself leads: the service gets the copied requests twice',
  ),
  route(
    'mirrors out of range',
    'mirror: [{ service: orders, subset: v1, share: 101%, bufferBytes: 0.5B, maxInFlight: 0 }]',
    '~:13:52 routes[0].mirror[0].share: "101%" is not a share from 0% to 100% (20%)',
    '~:13:71 routes[0].mirror[0].bufferBytes: "0.5B" is not a size of whole bytes (512B, 64KiB, 1MiB)',
    '~:13:90 routes[0].mirror[0].maxInFlight: must be at least 1, not 0',
  ),
  route('a mirror that is no list', 'mirror: orders', '~:13:13 routes[0].mirror: must be a list, not "orders"'),
  route(
    'faults that are none',
    'fault: {}',
    '~:13:12 routes[0].fault: does nothing: it needs "delay", "abort" or both',
  ),
  route(
    'faults out of range',
    'fault: { delay: { time: 0s, share: 101% }, abort: { status: 503, share: 200% } }',
    '~:13:29 routes[0].fault.delay.time: must be longer than 0',
    '~:13:40 routes[0].fault.delay.share: "101%" is not a share from 0% to 100% (20%)',
    '~:13:77 routes[0].fault.abort.share: "200%" is not a share from 0% to 100% (20%)',
  ),
  route(
    'faults of the wrong form',
    'fault: { delay: { share: 5% }, abort: { status: 200 } }',
    '~:13:21 routes[0].fault.delay: "time" is missing',
    '~:13:53 routes[0].fault.abort.status: must be at least 400, not 200',
  ),
  route(
    'a policy that is said twice',
    'retry: { attempts: 2 }\nfault: { abort: { status: 503 } }\nmirror: [{ service: orders, subset: v1 }]\nplugins: [retry: { attempts: 3 }, fault, mirror: { to: [] }]',
    '~:16:15 routes[0].plugins[0]: the route says "retry" as a key of its own too: say it once',
    '~:16:39 routes[0].plugins[1]: the route says "fault" as a key of its own too: say it once',
    '~:16:46 routes[0].plugins[2]: the route says "mirror" as a key of its own too: say it once',
  ),
  bare(
    'policies that have no effect',
    'respond: { status: 200 }\nretry: {}\nhedge: {}\nsession: { cookie: a }\nmirror: [{ service: orders }]\nfault: { abort: { status: 503 } }',
    '~:7:3 warning: services.orders: no route leads to service "orders"',
    '~:13:12 warning: routes[0].retry: has no effect on a route without "to"',
    '~:14:12 warning: routes[0].hedge: has no effect on a route without "to"',
    '~:15:14 warning: routes[0].session: has no effect on a route without "to"',
    '~:16:13 warning: routes[0].mirror: has no effect on a route without "to"',
    '~:17:12 warning: routes[0].fault: has no effect on a route without "to"',
  ),
  // The mesh
  top(
    'a mesh of bad names and places',
    'mesh:\n  trustDomain: Shop.Internal\n  mtls: maybe',
    '~:14:16 mesh.trustDomain: must be a trust domain: lower-case letters, digits, ".", "-" and "_", not "Shop.Internal"',
    '~:15:9 mesh.mtls: must be strict, permissive or off, not "maybe"',
  ),
  top(
    'an identity from two places',
    'mesh:\n  identity:\n    builtin: {}\n    spiffe: { socket: "unix:///run/agent.sock" }',
    '~:15:5 mesh.identity: needs exactly one of "builtin", "files", "ca" and "spiffe"',
  ),
  top(
    'identities that cannot be reached',
    'mesh:\n  trustDomainAliases: { mesh.internal: nowhere.crt }\n  identity: { spiffe: { socket: "tcp://agent:80" } }',
    '~:14:40 mesh.trustDomainAliases.mesh.internal: is this mesh itself; its roots come from "identity"',
    '~:14:40 mesh.trustDomainAliases.mesh.internal: "nowhere.crt" cannot be read: no such file',
    '~:15:33 mesh.identity.spiffe.socket: "tcp://agent:80" is not a unix socket, such as unix:///run/spire/agent.sock',
  ),
  // Authorization
  policies(
    'policies for nobody or for two, that say nothing or two things',
    [
      '{ name: nothing }',
      '{ name: both, service: orders, gateway: public, allow: [{}], deny: [{}] }',
      '{ name: both, service: ordrs, deny: [{}] }',
      '{ name: typo, gateway: publc, deny: [{}] }',
      '{ name: has space, service: orders, allow: [{ form: [service/plain] }] }',
    ],
    '~:13:5 authorization[0]: says neither "allow" nor "deny": it needs one of them',
    '~:13:5 authorization[0]: says neither "service" nor "gateway": it needs one of them, or "*" for every one',
    '~:14:45 authorization[1].gateway: a policy is for a "service" or a "gateway", not for both: write two',
    '~:14:72 authorization[1].deny: a policy has "allow" or "deny", not both: write two',
    '~:15:13 authorization[2].name: another policy has the name "both", at ~:14:5',
    '~:15:28 authorization[2].service: no service "ordrs" (did you mean "orders"?)',
    '~:16:28 authorization[3].gateway: no gateway "publc" (did you mean "public"?)',
    '~:17:13 authorization[4].name: must be a name of 1 to 63 letters, digits, "-", "_" and ".", not "has space"',
    '~:17:51 authorization[4].allow[0].form: unknown key "form" (did you mean "from"?)',
  ),
  policies(
    'callers that do not exist',
    [
      '{ name: a, gateway: public, deny: [{ from: [plain, service/plian, gateway/publc, spiffe://mesh.internal/service/plan] }] }',
      '{ name: b, gateway: public, deny: [{ not: { from: [Service/plain, "spiffe://partner", "spiffe://partner/../x"] } }] }',
    ],
    '~:13:48 warning: authorization[0].deny[0].from: no caller has an identity: no listener of the gateway asks for a client certificate',
    '~:13:49 authorization[0].deny[0].from[0]: "plain" is not a caller: write service/NAME, gateway/NAME, service/*, gateway/*, * or a whole id such as spiffe://partner.internal/service/x; did you mean "service/plain"?',
    '~:13:56 authorization[0].deny[0].from[1]: no service "plian" (did you mean "service/plain"?)',
    '~:13:71 authorization[0].deny[0].from[2]: no gateway "publc" (did you mean "gateway/public"?)',
    '~:13:86 authorization[0].deny[0].from[3]: no service "plan" (did you mean "service/plain"?)',
    '~:14:55 warning: authorization[1].deny[0].not.from: no caller has an identity: no listener of the gateway asks for a client certificate',
    '~:14:56 authorization[1].deny[0].not.from[0]: "Service/plain" is not a caller: write service/NAME, gateway/NAME, service/*, gateway/*, * or a whole id such as spiffe://partner.internal/service/x',
    '~:14:71 authorization[1].deny[0].not.from[1]: "spiffe://partner" is not a caller: write service/NAME, gateway/NAME, service/*, gateway/*, * or a whole id such as spiffe://partner.internal/service/x',
    '~:14:91 authorization[1].deny[0].not.from[2]: "spiffe://partner/../x" is not a caller: write service/NAME, gateway/NAME, service/*, gateway/*, * or a whole id such as spiffe://partner.internal/service/x',
  ),
  policies(
    'callers without an identity, and from another mesh',
    ['{ name: a, service: orders, allow: [{ from: ["service/*", "spiffe://partner.internal/*"] }] }'],
    '~:13:49 warning: authorization[0].allow[0].from: no caller has an identity: "mesh.mtls" is off',
    '~:13:63 warning: authorization[0].allow[0].from[1]: trust domain "partner.internal" is not among those of the mesh, so no such caller gets in',
  ),
  policies(
    'conditions that are none',
    [
      '{ name: a, service: orders, allow: [{ methods: [get], hosts: ["a*"], clientAddress: [10.0.0.0/40] }] }',
      '{ name: b, service: orders, allow: [{ paths: [orders, /a;b, "/a%2Fb", { regex: "(" }, { exact: /a, prefix: /b }] }] }',
      '{ name: c, service: orders, allow: [{ headers: { "x a": b }, claims: { sub: { regex: "(" }, ok: true }, not: { not: {} } }] }',
    ],
    '~:13:53 authorization[0].allow[0].methods[0]: "get" is not a method that HTTP servers of Node read; write "GET"',
    '~:13:67 authorization[0].allow[0].hosts[0]: "a*" is not a host: "*." is possible only as the first label',
    '~:13:90 authorization[0].allow[0].clientAddress[0]: "10.0.0.0/40" is not a network: write an address or a CIDR such as 10.0.0.0/8',
    '~:14:51 authorization[1].allow[0].paths[0]: "orders" is not a path: it begins with "/" and has no "?", "#", space or broken escape',
    '~:14:59 authorization[1].allow[0].paths[1]: a service may take "/a;b" for "/a", so it is judged as both: write "/a"',
    '~:14:65 authorization[1].allow[0].paths[2]: a service may take "/a%2Fb" for "/a/b", so it is judged as both: write "/a/b"',
    '~:14:84 authorization[1].allow[0].paths[3].regex: "(" is not an RE2 expression: missing closing ): `(`',
    '~:14:91 authorization[1].allow[0].paths[4]: must have exactly one of exact, prefix or regex',
    '~:15:61 authorization[2].allow[0].headers.x a: "x a" is not the name of a header',
    '~:15:90 authorization[2].allow[0].claims.sub.regex: "(" is not an RE2 expression: missing closing ): `(`',
    '~:15:101 authorization[2].allow[0].claims.ok: must be text or a map with exact, prefix, regex, present or absent, not true: put it in quotes, "true"',
    '~:15:116 authorization[2].allow[0].not.not: unknown key "not"',
  ),
  policies(
    'rules that never hold, and policies that nothing applies',
    [
      '{ name: a, service: plain, allow: [{}] }',
      '{ name: b, service: orders, deny: [{ methods: [], not: { hosts: [] } }] }',
      '{ name: c, service: orders, deny: [] }',
      '{ name: d, gateway: public, allow: [{ paths: [/orders/1, /, /shop] }] }',
      '{ name: e, service: "*", deny: [{ paths: [/admin] }] }',
      '{ name: f, service: orders, allow: [{ paths: [/admin/x], methods: [GET] }, { paths: [/] }, { paths: [/admins] }] }',
    ],
    '~:13:25 warning: authorization[0].service: service "plain" has no hop ("internal"), so nothing applies this policy',
    '~:14:51 warning: authorization[1].deny[0].methods: an empty list holds for nothing; leave the key out where anything may be',
    '~:14:69 warning: authorization[1].deny[0].not.hosts: an empty list holds for nothing; leave the key out where anything may be',
    '~:15:39 warning: authorization[2].deny: an empty list denies nothing',
    '~:16:65 warning: authorization[3].allow[0].paths[2]: no route of the gateway has such a path, so it never holds',
    '~:18:41 warning: authorization[5].allow[0]: policy "e" denies whatever this would allow',
  ),
  service(
    'policies at a service that name another, and a plugin that would take their place',
    'authorization: [{ name: a, service: other, allow: [] }]\nplugins: [authorization: { target: x, policies: [] }]',
    '~:10:32 services.orders.authorization[0].service: unknown key "service"',
    '~:11:15 services.orders.plugins[0]: is not for lists of plugins: policies stand under "authorization" at the top or at a service',
  ),
  route(
    'a route that would switch the policies off',
    'plugins: [authorization: false]',
    '~:13:15 warning: routes[0].plugins[0]: switches off a plugin that no gateway or listener of this route has',
    '~:13:15 routes[0].plugins[0]: is not for lists of plugins: policies stand under "authorization" at the top or at a service',
  ),
  // TCP
  whole(
    'what is about requests, at a service that speaks TCP',
    `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }] } }
authorization:
  - { name: no-deletes, service: "*", deny: [{ methods: [DELETE], not: { paths: [/x] } }] }
  - { name: wide, service: "*", allow: [{ from: [service/orders], not: { methods: [DELETE] } }] }
services:
  orders:
    endpoints: [{ address: "127.0.0.1:3000", hop: "127.0.0.1:15001" }]
    internal: { inbound: { port: 15001 }, outbound: { port: 15002, ports: { db: "127.0.0.1:5433" } } }
  lonely: { protocol: tcp, endpoints: ["127.0.0.1:1"] }
  db:
    protocol: tcp
    endpoints: [{ address: "127.0.0.1:15432", hop: "127.0.0.1:15432" }]
    subsets: { a: {} }
    plugins: [request-id]
    concurrency: { adaptive: true }
    retryBudget: { share: 10% }
    connections: { max: 3, pending: 1, requests: 5, retries: 1, waitForEndpoint: 1s, idleTimeout: 0s }
    healthCheck: { http: {} }
    loadBalancing: { ring-hash: { header: x } }
    authorization: [{ name: p, allow: [{ from: [service/orders], methods: [GET], headers: { a: b } }] }]
    internal: { inbound: { port: 15432 } }
routes:
  - { name: db, to: db }
  - { name: dbs, internal: [db], to: [{service: db, subset: a}], mirror: [{ service: db, share: 1% }] }
`,
    '~:4:57 warning: authorization[0].deny[0].methods: never holds for connections to "lonely", "db", which have no methods',
    '~:4:81 warning: authorization[0].deny[0].not.paths: makes no exception for connections to "lonely", "db", which have no paths',
    '~:5:83 warning: authorization[1].allow[0].not.methods: never holds for connections to "lonely", "db", which have no methods',
    '~:10:3 warning: services.lonely: no hop has a local port ("internal.outbound.ports") for "lonely", so no application reaches it',
    '~:14:14 services.db.subsets: "subsets" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:15:14 services.db.plugins: "plugins" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:16:18 services.db.concurrency: "concurrency" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:17:18 services.db.retryBudget: "retryBudget" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:18:37 services.db.connections.pending: "pending" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:18:50 services.db.connections.requests: "requests" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:18:62 services.db.connections.retries: "retries" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:18:82 services.db.connections.waitForEndpoint: "waitForEndpoint" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out',
    '~:19:26 services.db.healthCheck.http: this service speaks TCP ("protocol: tcp"): check it by "tcp: {}"',
    '~:20:43 services.db.loadBalancing.ring-hash.header: a connection has no header: with "protocol: tcp", ring-hash goes by "clientAddress" alone',
    '~:21:75 services.db.authorization[0].allow[0].methods: is about requests, and "db" speaks TCP: a connection is judged by "from" and "clientAddress" alone',
    '~:21:91 services.db.authorization[0].allow[0].headers: is about requests, and "db" speaks TCP: a connection is judged by "from" and "clientAddress" alone',
    '~:22:15 services.db.internal: the application at 127.0.0.1:15432 is this hop itself: connections would go round in circles',
    '~:24:21 routes[0].to: service "db" speaks TCP, and routes are for HTTP: applications reach it by a local port of their hop ("internal.outbound.ports")',
    '~:25:29 routes[1].internal[0]: service "db" speaks TCP, and routes are for HTTP: applications reach it by a local port of their hop ("internal.outbound.ports")',
    '~:25:39 routes[1].to[0]: service "db" speaks TCP, and routes are for HTTP: applications reach it by a local port of their hop ("internal.outbound.ports")',
  ),
  top(
    'a Redis where nothing counts',
    'redis: { url: "redis://x" }',
    '~:13:8 warning: redis: nothing counts there: no "rate-limit" says "shared: true"',
  ),
  top(
    'a Redis that is none',
    'redis: { url: "http://x", timeout: soon }',
    '~:13:15 redis.url: must be a redis:// or rediss:// URL, not "http://x"',
    '~:13:36 redis.timeout: must be a duration such as 250ms, 10s or 5m, not "soon"',
  ),
  top('a number of workers that is none', 'workers: 0', '~:13:10 workers: must be at least 1, not 0'),
  top('workers in words', 'workers: all', '~:13:10 workers: must be a whole number from 1 to 64, or auto, not "all"'),
  {
    ...rollout(
      'a rollout that every worker would move for itself',
      'rollout: { from: v1, to: v2, abortOn: { errorRate: 1% } }',
      '~:14:14 routes[0].rollout: needs "workers: 1": every worker would measure and move its own share of the requests',
    ),
    text: rollout('', 'rollout: { from: v1, to: v2, abortOn: { errorRate: 1% } }').text.replace(
      'version: 1\n',
      'version: 1\nworkers: auto\n',
    ),
  },
  route(
    'what becomes of requests that this process cannot fail to count',
    'plugins: [{ rate-limit: { max: 1, window: 1s, onStoreFailure: deny } }]',
    '~:13:15 "onStoreFailure" has a meaning only together with "shared: true", or with several "workers"',
  ),
  // Not supported
  top(
    'parts of the format that are not there yet',
    'etcd: { url: "http://x" }\nmesh: { mtls: strict, trustDomain: x }',
    '~:13:1 etcd: not supported by this version',
  ),
  service(
    'services that are not there yet',
    'protocol: grpc\nlocked: [protocol]\ndiscover: { dns: x }',
    '~:10:15 services.orders.protocol: "grpc" is not supported by this version',
    '~:11:5 services.orders.locked: not supported by this version',
    '~:12:5 services.orders.discover: not supported by this version',
  ),
  route(
    'routes that are not there yet',
    'priority: 2\nmatch: [{ from: [service/a] }]',
    '~:13:5 routes[0].priority: not supported by this version',
    '~:14:15 routes[0].match[0].from: not supported by this version',
  ),
  top(
    'listeners that are not there yet',
    'telemetry: { metrics: { exemplars: true } }',
    '~:13:25 telemetry.metrics.exemplars: not supported by this version',
  ),
  // Egress
  top(
    'an egress that nobody ever asks',
    'egress: {}',
    '~:13:9 warning: egress: no hop has an "outbound", so no call ever asks',
  ),
  egress(
    'callers that do not exist',
    'allow: [{ from: [service/ordrs, orders, gateway/public, service/] }]',
    '~:10:20 egress.allow[0].from[0]: no service "ordrs" (did you mean "orders"?)',
    '~:10:35 egress.allow[0].from[1]: "orders" is no caller: write service/NAME, or service/* for every hop',
    '~:10:43 egress.allow[0].from[2]: "gateway/public" is no caller: write service/NAME, or service/* for every hop',
    '~:10:59 egress.allow[0].from[3]: "service/" is no caller: write service/NAME, or service/* for every hop',
  ),
  egress(
    'hosts that are none',
    'allow: [{ hosts: ["*", "a.*.test", "a.test:443", "https://a.test", "0177.0.0.1"] }]',
    '~:10:21 egress.allow[0].hosts[0]: "*" stands for any host: leave "hosts" out instead',
    '~:10:26 egress.allow[0].hosts[1]: "a.*.test" is not a host: "*." is possible only as the first label',
    '~:10:38 egress.allow[0].hosts[2]: "a.test:443" is not a host: leave out the port, "ports" chooses by port',
    '~:10:52 egress.allow[0].hosts[3]: "https://a.test" is not a host name',
    '~:10:70 egress.allow[0].hosts[4]: "0177.0.0.1" is not a host name',
  ),
  egress(
    'a host that is no stranger',
    'allow: [{ hosts: [orders] }]',
    '~:10:21 warning: egress.allow[0].hosts[0]: is a service of the mesh: calls of it do not leave the mesh, so this says nothing',
  ),
  egress(
    'networks that are none',
    'deny: [{ cidrs: [10.0.0.0/33, host.test] }]',
    '~:10:20 egress.deny[0].cidrs[0]: "10.0.0.0/33" is not a network: write an address or a CIDR such as 10.0.0.0/8',
    '~:10:33 egress.deny[0].cidrs[1]: "host.test" is not a network: write an address or a CIDR such as 10.0.0.0/8',
  ),
  egress(
    'a network that means anywhere',
    'allow: [{ cidrs: [0.0.0.0/0, "::/0", 10.0.0.0/8] }]',
    '~:10:21 warning: egress.allow[0].cidrs[0]: opens public addresses only: a network that opens private ones is /8 or narrower',
    '~:10:32 warning: egress.allow[0].cidrs[1]: opens public addresses only: a network that opens private ones is /7 or narrower',
  ),
  egress(
    'ports, methods and paths that are none',
    'allow: [{ ports: [0, 70000], methods: [get, CONNECT], paths: [v1, "/a?b", { regex: "(?=a)" }] }]',
    '~:10:21 egress.allow[0].ports[0]: must be at least 1, not 0',
    '~:10:24 egress.allow[0].ports[1]: must be at most 65535, not 70000',
    '~:10:42 egress.allow[0].methods[0]: "get" is not a method that HTTP servers of Node read; write "GET"',
    '~:10:47 egress.allow[0].methods[1]: CONNECT asks for a tunnel and never reaches a route',
    '~:10:65 egress.allow[0].paths[0]: "v1" is not a path: it begins with "/" and has no "?", "#", space or broken escape',
    '~:10:69 egress.allow[0].paths[1]: "/a?b" is not a path: it begins with "/" and has no "?", "#", space or broken escape',
    '~:10:86 egress.allow[0].paths[2].regex: "(?=a)" is not an RE2 expression: invalid or unsupported Perl syntax: `(?=`; lookaround and backreferences cannot run in linear time, use several matches instead',
  ),
  egress(
    'an empty list of callers',
    'allow: [{ from: [] }]',
    '~:10:19 egress.allow[0].from: must have at least one item',
  ),
  egress(
    'a rule about tunnels that lets none through',
    'allow: [{ methods: [GET], tls: false }, { paths: [/v1], ports: [443] }]',
    '~:10:34 egress.allow[0].tls: is about tunnels, and a rule with "methods" or "paths" lets no tunnel through',
    '~:10:43 warning: egress.allow[1]: "methods" and "paths" are seen in plain HTTP only: this rule lets no tunnel (CONNECT, https) through',
  ),
  egress('a deny rule with tls', 'deny: [{ tls: false }]', '~:10:12 egress.deny[0].tls: unknown key "tls"'),
  egress(
    'names that are taken',
    'deny: [{ name: a }]\nallow: [{ name: a }, { name: egress.default }]',
    '~:11:19 egress.allow[0].name: egress.deny[0] has the name "a" as well',
    '~:11:32 egress.allow[1].name: "egress.default" stands for what no rule decides',
  ),
  egress('a default that is none', 'default: refuse', '~:10:12 egress.default: must be deny or allow, not "refuse"'),
  whole(
    'a service called egress',
    `${HOPS.replaceAll('orders', 'egress')}egress: {}\n`,
    '~:9:9 egress: no service can be called "egress" then: in logs and metrics it stands for calls beyond the mesh',
  ),
  top(
    'a collector that cannot be one',
    'telemetry:\n  tracing: { otlp: "http://user:word@x", sample: 101%, propagate: [w3b], headers: { "a b": c, Host: x, X-A: "\\u2028", x-a: b } }',
    '~:14:20 telemetry.tracing.otlp: must be an http or https URL without user, query and fragment, such as http://127.0.0.1:4318; "headers" has room for credentials',
    '~:14:50 telemetry.tracing.sample: "101%" is not a share from 0% to 100% (20%)',
    '~:14:68 telemetry.tracing.propagate[0]: must be w3c, b3 or b3multi, not "w3b" (did you mean "w3c"?)',
    '~:14:92 telemetry.tracing.headers.a b: "a b" is not the name of a header',
    '~:14:101 telemetry.tracing.headers.Host: "Host" is set by the exporter itself',
    '~:14:109 telemetry.tracing.headers.X-A: the value of "X-A" has characters that no header may have',
    '~:14:124 telemetry.tracing.headers.x-a: "x-a" is given twice',
  ),
  top('tracing to nowhere', 'telemetry: { tracing: { sample: 5% } }', '~:13:23 telemetry.tracing: "otlp" is missing'),
  gateway(
    'limits that are not there yet',
    'limits: { http2: { streams: 1 } }',
    '~:6:15 gateways.public.limits.http2: not supported by this version',
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

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// Configs and edits of them, for tests that compare a load after an edit with a first one.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';

/** Each of a kind of its own; those with a mistake or a warning among them, and those that come from elsewhere. */
export const ROUTES: readonly string[] = [
  'to: orders',
  'to: orders\n    timeout: { request: 5s }\n    requestHeaders: { set: { x-tenant: acme } }',
  'hosts: [shop.example.com, "*.example.org"]\n    to: [{ service: orders, weight: 3 }, { service: carts, subset: v1 }]',
  'respond: { status: 404, body: "gone" }',
  'redirect: { scheme: https, status: 308 }',
  'to: orders\n    plugins: [cors: { origins: ["https://www.example.com"] }, body-limit: { max: 1MiB }]',
  'to: orders\n    plugins: [rate-limit: { max: 5, window: 1s, shared: true }]',
  'to: orders\n    plugins: [rate-limit: { max: 5, window: 1s }, compress: false]',
  'to: orders\n    mirror: [{ service: carts }]\n    fault: { abort: { share: 1%, status: 503 } }',
  'to: orders\n    mirror: [{ service: orders, share: 10% }]',
  'to: orders\n    mirror: [{ service: carts, subset: v1 }]',
  'to: carts\n    rollout: { from: v1, to: v2, steps: [10%, 50%] }',
  'internal: [orders]\n    to: carts',
  'to: orders\n    priority: false',
  'to: orders\n    retry: { attempts: 2, on: [connect-failure, { status: [503] }] }\n    session: { cookie: at, secret: 0123456789abcdef }',
  'to: orders\n    requestHeaders: { set: { x-api-key: very-secret-text } }',
  'to: orders\n    plugins: [mine-not-here: { url: "redis://u:pass-word@h" }]',
  'to: orders\n    bodyBytes: ${SIZE}',
  'to: orders\n    hosts: ["${HOST:-a.example.com}"]',
  'respond: { body: "${file:body.txt}" }',
  'to: orders\n    plugins: [openapi: { document: api.txt }, ./plugin.ts: {}]',
  'to: orders\n    hosts: [&h b.example.com, *h]',
  'to: "orders"\n    listeners: [http]\n    encodedSlashes: keep',
  // Wrong, or odd.
  'to: ordrs',
  'to: orders\n    timeuot: 5s',
  'to: orders\n    bodyBytes: 5 apples',
  'to: [',
  'to: orders\n    redirect: { status: 308 }',
  'redirect: { status: 301 }\n    retry: { attempts: 2 }',
  'to: orders\n    priority: 5',
  'to: orders\n    listeners: [nope]',
  'to: orders\n    plugins: [cors: false]',
  'to:',
];

const AROUND: readonly string[] = [
  '',
  'redis: { url: "redis://h:6379" }\n',
  'redis: { url: "redis://h:6379/${SIZE}" }\n',
  '# only a line\n',
  'workers: 2\n',
  'telemetry: { accessLog: false }\n',
  'authorization: [{ name: own, services: [orders], allow: [{ from: [service/carts] }] }]\n',
  'egress: { allow: [{ hosts: [api.example.com] }] }\n',
  'etcd: {}\n',
  'nonsense: 1\n',
];

const SERVICES: readonly string[] = [
  '  orders: { endpoints: ["10.0.0.1:80"] }\n',
  '  orders: { endpoints: ["10.0.0.3:80"], subsets: {} }\n  others: { endpoints: ["10.0.0.4:80"] }\n',
  '  orders: { endpoints: ["10.0.0.1:80"], internal: { inbound: { port: 9090 }, outbound: { port: 9091 } } }\n',
  '  orders: { endpoints: ["10.0.0.1:${PORT}"] }\n',
  '  orders: { endpoints: ["10.0.0.1:80"], protocol: tcp }\n',
  '',
];

/** What `carts` has; only one of them has the subset that mirrors name. */
const SUBSETS: readonly string[] = [
  'v1: { v: v1 }, v2: { v: v2 }',
  'v2: { v: v2 }',
  'v2: { v: v2 }, v1: { v: v2 }, v0:',
];

/** Of a gateway, and what comes after it. */
const LISTENERS: readonly string[] = [
  '{ name: http, port: 8080 }',
  '{ name: http, port: 8080 }, { name: more, port: 8081, redirect: https }',
  '{ name: http, port: 8080, redirect: https }',
  '{ name: http, port: 8080, plugins: [{ cors: {}, locked: true }] }',
  '{ name: http, port: 8080 }] }, inner: { listeners: [{ name: inner, port: 8082 }',
];

/** What stands before a route; with the last one its dash stands alone in its line. */
const NOTES: readonly string[] = ['', '  # a note\n', '\n', '# - name: no route\n\n', '    # - deeper\n', ''];

type Route = readonly [name: number, kind: number, note: number];

export interface Written {
  readonly around: number;
  readonly services: number;
  readonly subsets: number;
  readonly listeners: number;
  readonly routes: readonly Route[];
  /** Routes of the second file; -1: there is none. */
  readonly more: number;
  /** Lines at the top, and before the routes. */
  readonly above: number;
  readonly blank: number;
  /** Columns that the routes stand further to the right than usual. */
  readonly right: number;
  readonly size: number;
}

export const START: Written = {
  ...{ around: 0, services: 0, subsets: 0, listeners: 0, routes: [], more: -1 },
  ...{ above: 0, blank: 0, right: 0, size: 0 },
};

const index = (list: readonly unknown[]): fc.Arbitrary<number> => fc.nat(list.length - 1);
const SOUND = 23;
export const kind = fc.oneof({ weight: 20, arbitrary: fc.nat(SOUND - 1) }, { weight: 1, arbitrary: index(ROUTES) });

/** One edit of a config. */
export const edit: fc.Arbitrary<(written: Written) => Written> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.nat(), kind)
      .map(([at, kind]) =>
        withRoutes((routes) => routes.with(at % routes.length, [routes[at % routes.length][0], kind, 0])),
      ),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.nat(), fc.nat(1_000), kind)
      .map(([at, name, kind]) =>
        withRoutes((routes) => routes.toSpliced(at % (routes.length + 1), 0, [name, kind, 0])),
      ),
  },
  // One twice: the same text, or the same name alone; and each name once again.
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(), fc.nat())
      .map(([from, to]) =>
        withRoutes((routes) => routes.toSpliced(to % (routes.length + 1), 0, routes[from % routes.length])),
      ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(), fc.nat(), kind)
      .map(([from, to, kind]) =>
        withRoutes((routes) => routes.with(to % routes.length, [routes[from % routes.length][0], kind, 0])),
      ),
  },
  {
    weight: 2,
    arbitrary: fc.constant(
      withRoutes((routes) => routes.filter(([name], at) => routes.findIndex(([other]) => other === name) === at)),
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.nat(), index(NOTES))
      .map(([at, note]) =>
        withRoutes((routes) =>
          routes.with(at % routes.length, [routes[at % routes.length][0], routes[at % routes.length][1], note]),
        ),
      ),
  },
  { weight: 3, arbitrary: fc.nat(3).map((above) => (written: Written) => ({ ...written, above })) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: -2, max: 1 }).map((right) => (written: Written) => ({ ...written, right })),
  },
  { weight: 1, arbitrary: index(SUBSETS).map((subsets) => (written: Written) => ({ ...written, subsets })) },
  { weight: 3, arbitrary: fc.nat().map((at) => withRoutes((routes) => routes.toSpliced(at % routes.length, 1))) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.nat(), fc.nat())
      .map(([from, to]) =>
        withRoutes((routes) =>
          routes
            .with(from % routes.length, routes[to % routes.length])
            .with(to % routes.length, routes[from % routes.length]),
        ),
      ),
  },
  {
    weight: 2,
    arbitrary: fc.constant(
      (written: Written): Written => ({
        ...written,
        routes: written.routes.map(([name, kind, note]) => [name, kind % SOUND, note]),
      }),
    ),
  },
  { weight: 1, arbitrary: index(AROUND).map((around) => (written: Written) => ({ ...written, around })) },
  {
    weight: 1,
    arbitrary: fc.constant(
      (written: Written): Written => ({ ...written, around: 0, services: 0, subsets: 0, listeners: 0 }),
    ),
  },
  { weight: 1, arbitrary: index(SERVICES).map((services) => (written: Written) => ({ ...written, services })) },
  { weight: 1, arbitrary: index(LISTENERS).map((listeners) => (written: Written) => ({ ...written, listeners })) },
  { weight: 1, arbitrary: fc.integer({ min: -1, max: 3 }).map((more) => (written: Written) => ({ ...written, more })) },
  { weight: 1, arbitrary: fc.nat(2).map((blank) => (written: Written) => ({ ...written, blank })) },
  { weight: 1, arbitrary: fc.nat(2).map((size) => (written: Written) => ({ ...written, size })) },
);

function withRoutes(change: (routes: Written['routes']) => Written['routes']): (written: Written) => Written {
  return (written) =>
    written.routes.length === 0 ? { ...written, routes: [[0, 0, 0]] } : { ...written, routes: change(written.routes) };
}

export function textOf({ around, services, subsets, listeners, routes, above, blank, right }: Written): string {
  const carts = `{ endpoints: [{ address: "10.0.0.2:80", labels: { v: v1 } }], subsets: { ${SUBSETS[subsets]} } }`;
  return `${'# above\n'.repeat(above)}version: 1
${AROUND[around]}gateways: { public: { listeners: [${LISTENERS[listeners]}] } }
services:
${SERVICES[services]}  carts: ${carts}
${'\n'.repeat(blank)}routes:
${routes.map((route) => shifted(routeText(route), right)).join('')}`;
}

function routeText([name, kind, note]: Route): string {
  const dash = note === NOTES.length - 1 ? '-\n   ' : '-';
  return `${NOTES[note]}  ${dash} name: route-${name}\n    match: [{ path: /${name} }]\n    ${ROUTES[kind]}\n`;
}

function shifted(text: string, right: number): string {
  return right < 0 ? text.replace(/^ {2}/gm, '') : text.replace(/^ /gm, ' '.repeat(right + 1));
}

export function write(dir: string, written: Written): void {
  writeFileSync(join(dir, 'a.yaml'), textOf(written));
  const second = join(dir, 'b.yaml');
  const more = Array.from({ length: written.more }, (_, at) => routeText([2_000 + at, at, 0]));
  if (written.more < 0) rmSync(second, { force: true });
  else writeFileSync(second, `routes:\n${more.join('')}`);
  writeFileSync(join(dir, 'body.txt'), `of size ${written.size}`);
}

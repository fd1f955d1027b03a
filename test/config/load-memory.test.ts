// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// A load that remembers the one before it says what a first load says, whatever was edited between them: values, problems, files and places.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type LoadResult, loadConfig } from '../../src/config/load.ts';
import { LoadMemory } from '../../src/config/load-memory.ts';
import type { Provenance } from '../../src/config/provenance.ts';
import { withConflicts } from '../../src/runtime/loaded.ts';
import { LoadedParts, LoadedPieces, NOTHING_TAKEN } from '../../src/runtime/loaded-pieces.ts';

/** Each of a kind of its own; those with a mistake or a warning among them, and those that come from elsewhere. */
const ROUTES: readonly string[] = [
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
  '  orders: { endpoints: ["10.0.0.1:80"], internal: { inbound: { port: 9090 }, outbound: { port: 9091 } } }\n',
  '  orders: { endpoints: ["10.0.0.1:${PORT}"] }\n',
  '  orders: { endpoints: ["10.0.0.1:80"], protocol: tcp }\n',
  '',
];

const LISTENERS: readonly string[] = [
  '{ name: http, port: 8080 }',
  '{ name: http, port: 8080 }, { name: more, port: 8081, redirect: https }',
  '{ name: http, port: 8080, redirect: https }',
  '{ name: http, port: 8080, plugins: [{ cors: {}, locked: true }] }',
];

interface Written {
  readonly around: number;
  readonly services: number;
  readonly listeners: number;
  /** The name of each and the kind of it. */
  readonly routes: readonly (readonly [name: number, kind: number])[];
  /** Routes of the second file; -1: there is none. */
  readonly more: number;
  readonly blank: number;
  readonly size: number;
}

const START: Written = { around: 0, services: 0, listeners: 0, routes: [], more: -1, blank: 0, size: 0 };

const index = (list: readonly unknown[]): fc.Arbitrary<number> => fc.nat(list.length - 1);
const SOUND = 22;
const kind = fc.oneof({ weight: 20, arbitrary: fc.nat(SOUND - 1) }, { weight: 1, arbitrary: index(ROUTES) });

/** One edit of a config. */
const edit: fc.Arbitrary<(written: Written) => Written> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.nat(), kind)
      .map(([at, kind]) =>
        withRoutes((routes) => routes.with(at % routes.length, [routes[at % routes.length][0], kind])),
      ),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.nat(), fc.nat(1_000), kind)
      .map(([at, name, kind]) => withRoutes((routes) => routes.toSpliced(at % (routes.length + 1), 0, [name, kind]))),
  },
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
        routes: written.routes.map(([name, kind]) => [name, kind % SOUND]),
      }),
    ),
  },
  { weight: 1, arbitrary: index(AROUND).map((around) => (written: Written) => ({ ...written, around })) },
  {
    weight: 1,
    arbitrary: fc.constant((written: Written): Written => ({ ...written, around: 0, services: 0, listeners: 0 })),
  },
  { weight: 1, arbitrary: index(SERVICES).map((services) => (written: Written) => ({ ...written, services })) },
  { weight: 1, arbitrary: index(LISTENERS).map((listeners) => (written: Written) => ({ ...written, listeners })) },
  { weight: 1, arbitrary: fc.integer({ min: -1, max: 3 }).map((more) => (written: Written) => ({ ...written, more })) },
  { weight: 1, arbitrary: fc.nat(2).map((blank) => (written: Written) => ({ ...written, blank })) },
  { weight: 1, arbitrary: fc.nat(2).map((size) => (written: Written) => ({ ...written, size })) },
);

function withRoutes(change: (routes: Written['routes']) => Written['routes']): (written: Written) => Written {
  return (written) =>
    written.routes.length === 0 ? { ...written, routes: [[0, 0]] } : { ...written, routes: change(written.routes) };
}

function textOf({ around, services, listeners, routes, blank }: Written): string {
  return `version: 1
${AROUND[around]}gateways: { public: { listeners: [${LISTENERS[listeners]}] } }
services:
${SERVICES[services]}  carts: { endpoints: [{ address: "10.0.0.2:80", labels: { v: v1 } }], subsets: { v1: { v: v1 }, v2: { v: v2 } } }
${'\n'.repeat(blank)}routes:
${routes.map(routeText).join('')}`;
}

function routeText([name, kind]: readonly [number, number]): string {
  return `  - name: route-${name}\n    match: [{ path: /${name} }]\n    ${ROUTES[kind]}\n`;
}

function write(dir: string, written: Written): void {
  writeFileSync(join(dir, 'a.yaml'), textOf(written));
  const second = join(dir, 'b.yaml');
  const more = Array.from({ length: written.more }, (_, at) => routeText([2_000 + at, at]));
  if (written.more < 0) rmSync(second, { force: true });
  else writeFileSync(second, `routes:\n${more.join('')}`);
  writeFileSync(join(dir, 'body.txt'), `of size ${written.size}`);
}

function* stepsIn(value: unknown, above: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const steps = [...above, Array.isArray(value) ? Number(key) : key];
    yield steps;
    yield* stepsIn(inner, steps);
  }
}

function told({ config, understood, problems, files, provenance }: LoadResult): unknown {
  return {
    config,
    understood,
    problems,
    files: [...files].sort(),
    values: provenance === null ? null : valuesOf(provenance),
  };
}

function valuesOf(provenance: Provenance): unknown {
  const places = [...stepsIn(provenance.raw)].map((steps) => [steps.join('.'), provenance.locate(steps)]);
  return { effective: provenance.effective(), raw: provenance.raw, places, secrets: provenance.secretTexts };
}

async function both(
  dir: string,
  memory: LoadMemory,
  env: Record<string, string>,
): Promise<readonly [LoadResult, LoadResult]> {
  const found = await loadConfig('.', { cwd: dir, env, leaves: true, memory });
  return [found, await loadConfig('.', { cwd: dir, env, leaves: true })];
}

t.test('any edits in any order', async (t) => {
  const dir = t.testdir({});
  let loads = 0;
  let reused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(1_000), kind), { minLength: 3, maxLength: 8 }),
      fc.array(edit, { minLength: 2, maxLength: 8 }),
      async (routes, edits) => {
        const memory = new LoadMemory();
        const pieces = new LoadedPieces();
        let taken = NOTHING_TAKEN;
        let written: Written = { ...START, routes };
        let before: LoadResult | null = null;
        for (const change of [(same: Written) => same, ...edits]) {
          written = change(written);
          write(dir, written);
          const env = { SIZE: String(written.size), PORT: String(80 + written.size) };
          const [found, wanted] = await both(dir, memory, env);
          const same = isDeepStrictEqual(told(found), told(wanted));
          if (!same) t.strictSame(told(found), told(wanted), textOf(written));
          if (!same) return false;
          // On its way to the thread that serves it is what it was.
          const parts = new LoadedParts(taken);
          const read = withConflicts(found);
          for (const piece of pieces.about(read)) parts.add(structuredClone(piece));
          taken = parts.taken;
          const { config } = parts.loaded();
          const arrived = isDeepStrictEqual(structuredClone(config), structuredClone(withConflicts(wanted).config));
          if (!arrived) return false;
          loads++;
          const earlier = new Set(before?.config?.routes);
          if (found.config?.routes.some((route) => earlier.has(route))) reused++;
          if (found.config !== null) before = found;
        }
        return true;
      },
    ),
    { numRuns: 100 },
  );
  t.ok(reused > loads / 5, `${reused} of ${loads} loads took over routes`);
});

async function loads(t: Test, texts: readonly string[], files: Record<string, string> = {}): Promise<LoadResult[]> {
  const dir = t.testdir(files);
  const memory = new LoadMemory();
  const results: LoadResult[] = [];
  for (const text of texts) {
    writeFileSync(join(dir, 'a.yaml'), text);
    const [found, wanted] = await both(dir, memory, {});
    t.strictSame(told(found), told(wanted));
    results.push(found);
  }
  return results;
}

const routesOf = (result: LoadResult) => result.config?.routes ?? [];

t.test('a route that nobody touched is the same object, one that was is another', async (t) => {
  const text = textOf({
    ...START,
    routes: [
      [0, 0],
      [1, 1],
      [2, 3],
    ],
  });
  const [first, second, broken, third] = await loads(t, [
    text,
    text.replace('5s', '6s'),
    text.replace('5s', '6 apples'),
    text,
  ]);
  const [a, b, c] = routesOf(first);
  t.equal(routesOf(second)[0], a);
  t.not(routesOf(second)[1], b);
  t.equal(routesOf(second)[2], c);
  t.equal(broken.config, null);
  t.equal(routesOf(third)[2], c, 'a config that was refused is forgotten');
});

t.test('a line more before them, another service, another gateway: everything is read anew', async (t) => {
  const text = textOf({
    ...START,
    routes: [
      [0, 0],
      [1, 1],
    ],
  });
  const edits = [
    `#\n${text}`,
    text.replace('orders:', 'others: { endpoints: ["10.0.0.3:80"] }\n  orders:'),
    text.replace('8080', '8090'),
  ];
  for (const edited of edits) {
    const [first, second] = await loads(t, [text, edited]);
    t.not(routesOf(second)[0], routesOf(first)[0]);
    t.not(routesOf(second)[1], routesOf(first)[1]);
  }
});

t.test('what has a secret, a reference or a file in it is always read anew', async (t) => {
  const body = 'respond: { body: "${file:body.txt}" }';
  for (const kind of [
    ROUTES.indexOf(body),
    ROUTES.findIndex((route) => route.includes('openapi')),
    ROUTES.findIndex((route) => route.includes('very-secret')),
  ]) {
    const text = textOf({
      ...START,
      routes: [
        [0, 0],
        [1, kind],
      ],
    });
    const [first, second] = await loads(t, [text, text], { 'body.txt': 'x', 'api.txt': '', 'plugin.ts': '' });
    t.equal(routesOf(second)[0], routesOf(first)[0]);
    t.not(routesOf(second)[1], routesOf(first)[1], ROUTES[kind]);
  }
});

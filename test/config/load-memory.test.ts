// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// A load that remembers the one before it says what a first load says, whatever was edited between them: values, problems, files and places.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type LoadResult, loadConfig } from '../../src/config/load.ts';
import { LoadMemory } from '../../src/config/load-memory.ts';
import type { RouteConfig } from '../../src/config/model.ts';
import { formatProblem } from '../../src/config/problem.ts';
import type { Provenance } from '../../src/config/provenance.ts';
import { type Loaded, withConflicts } from '../../src/runtime/loaded.ts';
import { LoadedParts, LoadedPieces, NOTHING_TAKEN } from '../../src/runtime/loaded-pieces.ts';
import { edit, kind, ROUTES, START, textOf, type Written, write } from './edits.ts';

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

/** Every value that has arrived, and the places of some. */
function arrived({ config, provenance }: Loaded, steps: readonly (readonly (string | number)[])[]): unknown {
  if (config === null || provenance === null) return null;
  const places = steps.filter((_steps, at) => at % 9 === 0).map((steps) => provenance.locate(steps));
  return structuredClone({ config, effective: provenance.effective(), places });
}

function isFrozen(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || value instanceof Set) return true;
  return Object.isFrozen(value) && Object.values(value).every(isFrozen);
}

t.test('any edits in any order', async (t) => {
  const dir = t.testdir({});
  let loads = 0;
  let reused = 0;
  let moved = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(1_000), kind, fc.constant(0)), { minLength: 3, maxLength: 8 }),
      fc.array(edit, { minLength: 2, maxLength: 10 }),
      async (routes, edits) => {
        const memory = new LoadMemory();
        const pieces = new LoadedPieces();
        let taken = NOTHING_TAKEN;
        let written: Written = { ...START, routes };
        let before = new Map<RouteConfig, number>();
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
          for (const piece of pieces.provenance(read)) parts.add(piece);
          const steps = [...stepsIn(wanted.provenance?.raw)];
          const loaded = parts.loaded();
          const [there, here] = [arrived(loaded, steps), arrived(withConflicts(wanted), steps)];
          if (!isDeepStrictEqual(there, here)) t.strictSame(there, here, textOf(written));
          if (!isDeepStrictEqual(there, here) || !isFrozen(loaded.config)) return false;
          loads++;
          const routes = found.config?.routes ?? [];
          if (routes.some((route) => before.has(route))) reused++;
          if (routes.some((route) => (before.get(route) ?? route.at.line) !== route.at.line)) moved++;
          if (found.config !== null) before = new Map(routes.map((route) => [route, route.at.line]));
        }
        return true;
      },
    ),
    { numRuns: 100 },
  );
  t.ok(reused > loads / 4, `${reused} of ${loads} loads took over routes`);
  t.ok(moved > loads / 20, `${moved} of ${loads} loads took over routes that had moved`);
});

async function loads(t: Test, texts: readonly string[], files: Record<string, string> = {}): Promise<LoadResult[]> {
  const dir = t.testdir(files);
  const memory = new LoadMemory();
  const results: LoadResult[] = [];
  for (const text of texts) {
    writeFileSync(join(dir, 'a.yaml'), text);
    const [found, wanted] = await both(dir, memory, {});
    t.strictSame(told(found), told(wanted));
    // The next load moves places.
    results.push({ ...found, problems: structuredClone(found.problems) });
  }
  return results;
}

const routesOf = (result: LoadResult) => result.config?.routes ?? [];

t.test('a route that nobody touched is the same object, one that was is another', async (t) => {
  const text = textOf({
    ...START,
    routes: [
      [0, 0, 0],
      [1, 1, 0],
      [2, 3, 0],
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

const THREE: Written = {
  ...START,
  routes: [
    [0, 0, 0],
    [1, 1, 0],
    [2, 2, 0],
  ],
};

t.test('a route that only moved is the same object, at its new place', async (t) => {
  const text = textOf(THREE);
  const [first, line, inserted, removed, swapped] = await loads(t, [
    text,
    `#\n${text}`,
    textOf({ ...THREE, routes: [[3, 3, 0], ...THREE.routes] }),
    textOf({ ...THREE, routes: THREE.routes.slice(1) }),
    textOf({ ...THREE, routes: [[4, 3, 0], THREE.routes[1], [5, 3, 0]] }),
  ]);
  const [a, b] = routesOf(first);
  t.strictSame(routesOf(line).slice(0, 2), [a, b]);
  t.equal(routesOf(line)[0], a);
  t.equal(routesOf(line)[1], b);
  t.equal(routesOf(inserted)[1], a);
  t.equal(routesOf(inserted)[2], b);
  t.equal(routesOf(removed)[0], b);
  t.equal(routesOf(swapped)[1], b);
});

t.test('two routes of the same text are two, each at its place', async (t) => {
  const [first] = THREE.routes;
  const twice = textOf({ ...THREE, routes: [first, ...THREE.routes] });
  const results = await loads(t, [textOf(THREE), twice, `#\n${twice}`, textOf(THREE)]);
  const told = results.map(({ problems }) =>
    problems.filter(({ severity }) => severity === 'error').map(formatProblem),
  );
  t.strictSame(told, [
    [],
    ['a.yaml:10:11 routes[1].name: another route has the name "route-0", at a.yaml:7:11'],
    ['a.yaml:11:11 routes[1].name: another route has the name "route-0", at a.yaml:8:11'],
    [],
  ]);
});

t.test('what a route means depends on the names of gateways, and with a mirror on those of services', async (t) => {
  const mirror = ROUTES.findIndex((route) => route.includes('mirror: [{ service: carts, subset'));
  const written: Written = {
    ...THREE,
    routes: [
      [0, 0, 0],
      [1, mirror, 0],
      [2, 3, 0],
    ],
  };
  const text = textOf(written);
  const edited = async (text: string): Promise<readonly boolean[]> => {
    const [first, second] = await loads(t, [textOf(written), text]);
    return routesOf(first)
      .slice(0, 2)
      .map((route, index) => route === routesOf(second)[index]);
  };
  t.strictSame(await edited(text.replace('10.0.0.1', '10.0.0.9')), [true, true]);
  t.strictSame(await edited(text.replace('8080', '8090')), [true, true]);
  t.strictSame(await edited(text.replace('  orders:', '  others: { endpoints: ["10.0.0.3:80"] }\n  orders:')), [
    true,
    false,
  ]);
  t.strictSame(await edited(text.replace(' v2: { v: v2 }', ' v3: { v: v2 }')), [true, false]);
  t.strictSame(await edited(text.replace('public:', 'private:')), [false, false]);
});

t.test('routes that the full parser read are taken over where they stood, and now and then read anew', async (t) => {
  const anchor = ROUTES.findIndex((route) => route.includes('&h'));
  const text = textOf({ ...THREE, routes: [...THREE.routes, [9, anchor, 0]] });
  const edits = Array.from({ length: 20 }, (_, at) => text.replace('5s', `${at + 1}s`));
  const results = await loads(t, [text, `#\n${text}`, ...edits]);
  const firsts = results.map((result) => routesOf(result)[0]);
  t.not(firsts[1], firsts[0]);
  const kept = firsts.map((route, at) => at > 0 && route === firsts[at - 1]);
  t.strictSame(
    [...kept.keys()].filter((at) => !kept[at]),
    [0, 1, 2, 19],
  );
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
        [0, 0, 0],
        [1, kind, 0],
      ],
    });
    const [first, second] = await loads(t, [text, text], { 'body.txt': 'x', 'api.txt': '', 'plugin.ts': '' });
    t.equal(routesOf(second)[0], routesOf(first)[0]);
    t.not(routesOf(second)[1], routesOf(first)[1], ROUTES[kind]);
  }
});

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// The thread that reads configs says what reading them here would say, place by place; and when it dies, only that one load is lost.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { largeConfig } from '../../bench/reload-config.ts';
import { type LoadOptions, loadConfig } from '../../src/config/load.ts';
import type { OptionSchemas } from '../../src/config/secrets.ts';
import { type Loaded, withConflicts } from '../../src/runtime/loaded.ts';
import { LoaderThread } from '../../src/runtime/loader.ts';
import { fileSource } from '../../src/runtime/source.ts';
import { BAD_INPUTS } from '../config/bad-inputs.ts';

function thread(t: Test, start?: () => Worker): LoaderThread {
  const made = new LoaderThread({ start });
  t.teardown(() => made.close());
  return made;
}

async function here(path: string, options: LoadOptions) {
  return withConflicts(await loadConfig(path, options));
}

async function there(loader: LoaderThread, path: string, options: LoadOptions): Promise<Loaded> {
  const loaded = await loader.load(path, options);
  if (loaded === null) throw new Error('no thread');
  await loaded.whole;
  return loaded;
}

/** The keys and indexes of every value. */
function* stepsIn(value: unknown, above: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const steps = [...above, Array.isArray(value) ? Number(key) : key];
    yield steps;
    yield* stepsIn(inner, steps);
  }
}

/** Everything that a running process asks of what was loaded. `config` is another object, and frozen like the first. */
function sameLoaded(
  t: Test,
  found: Loaded,
  wanted: Loaded,
  name: string,
  schemas: OptionSchemas = () => undefined,
): void {
  t.same(found.config, wanted.config, name);
  t.strictSame(found.problems, wanted.problems, `${name}: problems`);
  t.strictSame(found.files, wanted.files, `${name}: files`);
  if (found.config === null || found.provenance === null || wanted.provenance === null) return;
  t.equal(thawed(found.config), null, `${name}: frozen`);
  for (const { provenance } of [found, wanted]) provenance?.hide(schemas);
  t.same(found.provenance.effective(), wanted.provenance.effective(), `${name}: effective`);
  const every = [...stepsIn(wanted.provenance.effective())];
  // Looking up one value reads fifty routes: of a large config some will do.
  const some = every.filter((_steps, index) => index < 500 || index % 23 === 0);
  const told = ({ provenance }: Loaded) =>
    some.map((steps) => [steps.join('.'), provenance?.locate(steps), steps.length > 1 && provenance?.valueAt(steps)]);
  t.same(told(found), told(wanted), `${name}: places and values`);
}

/** The first part that could be changed; sets can, wherever they come from. */
function thawed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Set) return null;
  if (!Object.isFrozen(value)) return value;
  for (const inner of Object.values(value)) if (thawed(inner) !== null) return thawed(inner);
  return null;
}

t.test('every mistake is reported as it is without a thread', async (t) => {
  const cwd = t.testdir({});
  const loader = thread(t);
  const options = { env: { NAME: 'many' }, cwd };
  for (const { name, text } of BAD_INPUTS) {
    writeFileSync(join(cwd, 'c.yaml'), text);
    const [found, wanted] = [await there(loader, 'c.yaml', options), await here('c.yaml', options)];
    t.strictSame(found.problems, wanted.problems, name);
    t.same(found.config, wanted.config, name);
  }
});

t.test('configs are the same, with the place of each value', async (t) => {
  const loader = thread(t);
  const golden = join(import.meta.dirname, '../config/golden');
  const env = { EDGE_PORT: '8443', ZONE: 'eu-1a', SESSION_SECRET: '0123456789abcdef' };
  const whole = { cwd: golden, env };
  sameLoaded(t, await there(loader, 'whole.yaml', whole), await here('whole.yaml', whole), 'golden');

  const text = largeConfig(320, 8080, 9901, '127.0.0.1:9', 1).replace('max: 2MiB', 'max: ${SIZE}');
  const cwd = t.testdir({ 'a.yaml': text, 'b.yaml': 'services: { "1": { endpoints: ["10.0.0.1:80"] } }\n' });
  const large = { cwd, env: { SIZE: '2MiB' }, roles: { gateways: ['public'], internal: [] } };
  const wanted = await here('.', large);
  t.ok(wanted.problems.length > 0, 'it has warnings');
  t.strictSame(
    wanted.problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  sameLoaded(t, await there(loader, '.', large), wanted, 'large');
});

const NAME = ['routes', 300, 'name'];

t.test('after an edit what did not change is the same object, and all the rest is as without a thread', async (t) => {
  const cwd = t.testdir({});
  const loader = thread(t);
  const text = largeConfig(320, 8080, 9901, '127.0.0.1:9', 1);
  const load = async (edited: string): Promise<Loaded> => {
    writeFileSync(join(cwd, 'c.yaml'), edited);
    const [found, wanted] = [await there(loader, 'c.yaml', { cwd }), await here('c.yaml', { cwd })];
    t.same(found.config, wanted.config);
    t.strictSame(found.problems, wanted.problems);
    if (wanted.config !== null) t.same(found.provenance?.locate(NAME), wanted.provenance?.locate(NAME));
    return found;
  };
  const first = await load(text);
  const second = await load(text.replace('edition 1', 'edition 2'));
  t.not(second.config?.routes[0], first.config?.routes[0]);
  t.equal(second.config?.routes[200], first.config?.routes[200]);
  t.equal(second.config?.services[0], first.config?.services[0]);
  t.equal((await load(text.replace('to: service-0', 'to: nobody'))).config, null);
  t.equal((await load(text)).config?.routes[200], first.config?.routes[200], 'an edit that was wrong is forgotten');

  const shifted = await load(`# a line more\n${text}`);
  t.not(shifted.config?.routes[200], first.config?.routes[200], 'it has another place');
  t.equal(shifted.config?.routes[200].matches[0].path, first.config?.routes[200].matches[0].path, 'and nothing else');
  const fewer = text.replace(/ {2}- name: route-7\n(?: {4}.*\n)*/, '');
  t.equal((await load(fewer)).config?.routes.length, 319);
  t.equal((await load(text)).config?.routes.length, 320);
});

t.test('secrets are hidden, and taken out of messages, as they are without a thread', async (t) => {
  const text = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }], plugins: [mine: { hush: "in-the-gateway", url: "redis://u:pass-word@h" }] } }
services: { orders: { endpoints: ["10.0.0.5:3000"] } }
routes: [{ name: orders, to: orders, plugins: [mine: { hush: "in-the-route", token: "by-its-name", env: "\${MY_TOKEN}" }] }]
`;
  const cwd = t.testdir({ 'c.yaml': text });
  const options = { cwd, env: { MY_TOKEN: 'from-the-env' } };
  const schemas: OptionSchemas = () => ({ properties: { hush: { type: 'string', writeOnly: true } } });
  const [found, wanted] = [await there(thread(t), 'c.yaml', options), await here('c.yaml', options)];
  sameLoaded(t, found, wanted, 'secrets', schemas);
  const message = 'in-the-gateway in-the-route by-its-name from-the-env pass-word';
  const scrubbed = found.provenance?.scrub({ severity: 'error', place: null, path: '', message });
  t.equal(scrubbed?.message, '[redacted] [redacted] [redacted] [redacted] [redacted]');
});

const ENDS = `require('node:worker_threads').parentPort.once('message', () => process.exit(7));`;
const THROWS = `require('node:worker_threads').parentPort.once('message', () => { throw new Error('of some kind'); });`;

t.test('a thread that dies is a problem with a name, and the next load has another thread', async (t) => {
  const cwd = t.testdir({ 'c.yaml': largeConfig(20, 8080, 9901, '127.0.0.1:9', 1) });
  const codes = [ENDS, THROWS];
  const real = (): Worker => new Worker(new URL('../../src/runtime/loader-thread.ts', import.meta.url));
  const loader = thread(t, () => {
    const code = codes.shift();
    return code === undefined ? real() : new Worker(code, { eval: true });
  });
  for (const reason of ['it ended with code 7', 'of some kind']) {
    const { config, problems } = await there(loader, 'c.yaml', { cwd });
    t.equal(config, null);
    t.match(problems, [{ severity: 'error', place: null }]);
    t.equal(
      problems[0].message,
      `the thread that reads the config failed: ${reason}; the next reload starts another one`,
    );
  }
  t.not((await there(loader, 'c.yaml', { cwd })).config, null);
});

/** Sends a config, and dies before the places of its values. */
const SENDS_HALF = `const { parentPort } = require('node:worker_threads');
  parentPort.once('message', ({ port }) => {
    port.postMessage({ kind: 'first', config: { routes: [] }, files: [], secretTexts: [] });
    parentPort.postMessage('config');
    parentPort.once('message', () => process.exit(7));
  });`;

t.test('the config is there before the places of its values, and without them where the thread dies', async (t) => {
  const cwd = t.testdir({ 'c.yaml': largeConfig(20, 8080, 9901, '127.0.0.1:9', 1) });
  const started: Worker[] = [];
  const loader = thread(t, () => {
    const real = new URL('../../src/runtime/loader-thread.ts', import.meta.url);
    started.push(started.length === 0 ? new Worker(SENDS_HALF, { eval: true }) : new Worker(real));
    return started[started.length - 1];
  });
  const half = await loader.load('c.yaml', { cwd });
  t.not(half?.config, null);
  const next = loader.load('c.yaml', { cwd });
  started[0].postMessage('die');
  t.match(await half?.whole, { severity: 'error', message: /it ended with code 7/ });
  const loaded = await next;
  t.equal(await loaded?.whole, null, 'the next load waited, and has another thread');
  t.equal(loaded?.config?.routes.length, 20);
  t.equal(started.length, 2);
});

t.test('an idle thread ends, and the next load starts another', async (t) => {
  const cwd = t.testdir({ 'c.yaml': largeConfig(20, 8080, 9901, '127.0.0.1:9', 1) });
  const started: Worker[] = [];
  const start = (): Worker => {
    const worker = new Worker(new URL('../../src/runtime/loader-thread.ts', import.meta.url));
    started.push(worker);
    return worker;
  };
  const loader = new LoaderThread({ start, idleMs: 1 });
  t.teardown(() => loader.close());
  await there(loader, 'c.yaml', { cwd });
  // Idle, it keeps nothing alive, this test neither.
  const alive = setInterval(() => {}, 1_000);
  t.teardown(() => clearInterval(alive));
  await new Promise((resolve) => started[0].once('exit', resolve));
  t.not((await there(loader, 'c.yaml', { cwd })).config, null);
  t.equal(started.length, 2);
});

t.test('the serving thread is free while the config is read', async (t) => {
  const cwd = t.testdir({ 'c.yaml': largeConfig(20, 8080, 9901, '127.0.0.1:9', 1) });
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const code = `const { parentPort, workerData } = require('node:worker_threads');
    parentPort.once('message', () => { Atomics.wait(workerData, 0, 0); parentPort.postMessage({ failure: 'opened' }); });`;
  const loader = thread(t, () => new Worker(code, { eval: true, workerData: gate }));
  let isOver = false;
  const loading = there(loader, 'c.yaml', { cwd }).then((loaded) => {
    isOver = true;
    return loaded;
  });
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  t.notOk(isOver, 'fifty turns of the loop went by');
  Atomics.store(gate, 0, 1);
  Atomics.notify(gate, 0);
  t.match((await loading).problems, [{ message: /opened/ }]);
});

class Counting extends LoaderThread {
  loads = 0;
  override load(path: string, options: LoadOptions): Promise<Loaded | null> {
    this.loads++;
    return super.load(path, options);
  }
}

t.test('the first load, small configs and configs in code are read without a thread', async (t) => {
  const large = largeConfig(300, 8080, 9901, '127.0.0.1:9', 1);
  const small = largeConfig(20, 8080, 9901, '127.0.0.1:9', 1);
  const cwd = t.testdir({
    'c.yaml': large,
    dir: { 'a.yaml': small, 'b.config.mjs': `/*${large}*/ export default {};` },
  });
  const loader = new Counting();
  t.teardown(() => loader.close());
  const source = fileSource('c.yaml', { cwd }, loader);
  sameLoaded(t, await source.load(), await here('c.yaml', { cwd }), 'start');
  t.equal(loader.loads, 0, 'at the start there is nobody to disturb');
  t.not((await source.load()).config, null);
  t.equal(loader.loads, 1, 'a large config');
  writeFileSync(join(cwd, 'c.yaml'), small);
  t.not((await source.load()).config, null);
  t.equal(loader.loads, 1, 'a small one');

  const mixed = fileSource('dir', { cwd }, loader);
  for (let load = 0; load < 2; load++) t.not((await mixed.load()).config, null);
  t.equal(loader.loads, 1, 'code');
  const timed = fileSource('c.yaml', { cwd, clock: Date }, loader);
  writeFileSync(join(cwd, 'c.yaml'), large);
  for (let load = 0; load < 2; load++) t.not((await timed.load()).config, null);
  t.equal(loader.loads, 1, 'with a clock of its own');
});

t.test('reading ahead is the work of the thread alone', async (t) => {
  const large = largeConfig(300, 8080, 9901, '127.0.0.1:9', 1);
  const cwd = t.testdir({
    'c.yaml': large,
    'small.yaml': 'version: 1',
    dir: { 'b.config.mjs': `/*${large}*/ throw new Error('must not run')` },
  });
  const loader = new Counting();
  t.teardown(() => loader.close());
  const source = fileSource('c.yaml', { cwd }, loader);
  t.equal(await source.loadAhead?.(), null, 'not before the start');
  await source.load();
  const [ahead, asked] = await Promise.all([source.loadAhead?.(), source.load()]);
  t.same(ahead?.config, asked.config, 'two at a time take turns');
  t.equal(loader.loads, 2);
  for (const path of ['small.yaml', 'dir']) {
    const other = fileSource(path, { cwd }, loader);
    await other.load();
    t.equal(await other.loadAhead?.(), null, path);
  }
  await source.close?.();
  t.equal(await source.loadAhead?.(), null, 'nor after the end');
  t.equal(loader.loads, 2);
});

t.test('where the module of the thread is missing, configs are read here', async (t) => {
  const cwd = t.testdir({ 'c.yaml': largeConfig(300, 8080, 9901, '127.0.0.1:9', 1) });
  let starts = 0;
  const loader = thread(t, () => {
    starts++;
    return new Worker(join(cwd, 'no-such-module.js'));
  });
  const source = fileSource('c.yaml', { cwd }, loader);
  for (let load = 0; load < 3; load++) t.not((await source.load()).config, null);
  t.equal(starts, 1);
  t.equal(readFileSync(join(cwd, 'c.yaml'), 'utf8').length > 32 * 1024, true);
});

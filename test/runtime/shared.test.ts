import t from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';

t.test('makes a value once and gives every owner the same one', async (t) => {
  const store = new SharedStore();
  let made = 0;
  const make = () => ({ number: ++made });
  const first = store.use({}, 'counter', make);
  t.equal(store.use({}, 'counter', make), first);
  t.equal(made, 1);
});

t.test('disposes a value when its last owner lets go, not before', async (t) => {
  const store = new SharedStore();
  const [old, next] = [{}, {}];
  const disposed: string[] = [];
  store.use(
    old,
    'cache',
    () => 'kept',
    (value) => void disposed.push(value),
  );
  store.use(
    next,
    'cache',
    () => 'never made',
    (value) => void disposed.push(`other ${value}`),
  );
  store.release(old);
  t.same(disposed, [], 'a reload took it over');
  store.release(next);
  t.same(disposed, ['kept'], 'with the dispose that came with it');
  t.equal(store.size, 0);
  t.equal(
    store.use({}, 'cache', () => 'anew'),
    'anew',
  );
});

t.test('an owner that uses a key twice holds it once', async (t) => {
  const store = new SharedStore();
  const owner = {};
  let disposed = 0;
  for (let time = 0; time < 2; time++)
    store.use(
      owner,
      'key',
      () => 1,
      () => void disposed++,
    );
  store.release(owner);
  store.release(owner);
  t.equal(disposed, 1);
});

t.test('a value that cannot be made leaves nothing behind', async (t) => {
  const store = new SharedStore();
  t.throws(
    () =>
      store.use({}, 'key', () => {
        throw new Error('no');
      }),
    /no/,
  );
  t.equal(store.size, 0);
});

t.test('a dispose that fails is reported and stops no other', async (t) => {
  const failures: string[] = [];
  const store = new SharedStore((error, key) => failures.push(`${key}: ${(error as Error).message}`));
  const owner = {};
  let disposed = false;
  store.use(
    owner,
    'throws',
    () => 1,
    () => {
      throw new Error('sync');
    },
  );
  store.use(owner, 'rejects', () => 1, (async () => {
    throw new Error('async');
  }) as () => void);
  store.use(
    owner,
    'works',
    () => 1,
    () => {
      disposed = true;
    },
  );
  store.release(owner);
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(disposed);
  t.same(failures, ['throws: sync', 'rejects: async']);
});

t.test('it is empty once nobody holds anything and what was shared is put away', async (t) => {
  const store = new SharedStore();
  const owner = {};
  let put: () => void = () => {};
  store.use(
    owner,
    'a',
    () => 1,
    () => new Promise<void>((resolve) => (put = resolve)) as never,
  );
  let empty = false;
  const waiting = store.whenEmpty().then(() => {
    empty = true;
  });
  store.release(owner);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(empty, false, 'it is still being put away');
  put();
  await waiting;
  await store.whenEmpty();
  const failing = new SharedStore();
  failing.use(
    owner,
    'a',
    () => 1,
    () => Promise.reject(new Error('no')) as never,
  );
  failing.release(owner);
  await failing.whenEmpty();
});

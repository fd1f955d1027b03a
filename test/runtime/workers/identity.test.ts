import t from 'tap';
import type { Mesh } from '../../../src/config/model.ts';
import type { IdentitySource, Svid } from '../../../src/identity/source.ts';
import { Channel } from '../../../src/runtime/workers/channel.ts';
import { IdentityClient, IdentityDesk, type IdentityNeed } from '../../../src/runtime/workers/identity.ts';
import { wires } from './support/fake-child.ts';

const MESH = { trustDomain: 'shop.internal', aliases: [], identity: { kind: 'ca' } } as unknown as Mesh;
const LOG = { info() {}, warn() {} };

/** A source whose certificates are numbered. */
function source() {
  const needed: string[][] = [];
  let change = (): void => {};
  const state = { generation: 1, closed: false, fails: false };
  const made: IdentitySource = {
    async need(ids) {
      if (state.fails) throw new Error('the token was used before');
      needed.push([...ids]);
    },
    svid: (id) => ({ id, cert: `cert ${state.generation}` }) as Svid,
    bundles: () => new Map([['shop.internal', 'root']]),
    onChange(listener) {
      change = listener;
      return () => {};
    },
    warnings: () => [],
    close() {
      state.closed = true;
    },
  };
  return { made, needed, state, change: () => change() };
}

function mesh() {
  const from = source();
  let opened = 0;
  const workers: { client: IdentityClient; supply: Channel }[] = [];
  const desk: IdentityDesk = new IdentityDesk(
    async () => {
      opened++;
      return from.made;
    },
    LOG,
    (worker, supply) => workers[worker - 1].supply.ask('identity', supply),
  );
  for (const number of [1, 2]) {
    const [a, b] = wires();
    const supply = new Channel(a, {
      identity: (need: IdentityNeed) => desk.need(number, need),
      identityUnused: (key: string) => desk.unused(number, key),
    });
    const client: IdentityClient = new IdentityClient(
      new Channel(b, { identity: (given: never) => client.supplied(given) }),
    );
    workers.push({ client, supply });
  }
  return { ...from, desk, workers: workers.map(({ client }) => client), opened: () => opened };
}

const turns = async () => {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
};

t.test('one source for all workers: asked once, and every renewal reaches each', async (t) => {
  const { workers, opened, change, state } = mesh();
  const sources = await Promise.all(workers.map((client) => client.open(MESH, LOG)));
  await Promise.all(sources.map((one) => one.need(['spiffe://shop.internal/service/a'])));
  t.equal(opened(), 1);
  t.strictSame([...sources[1].bundles()], [['shop.internal', 'root']]);
  let told = 0;
  sources[0].onChange(() => told++);
  state.generation = 2;
  change();
  await turns();
  t.strictSame(
    sources.map((one) => one.svid('spiffe://shop.internal/service/a')?.cert),
    ['cert 2', 'cert 2'],
  );
  t.equal(told, 1);
  t.equal(sources[0].svid('spiffe://shop.internal/service/b'), null);
});

t.test('it is closed with its last user, and not while a worker is about to be started again', async (t) => {
  const { workers, desk, state } = mesh();
  const sources = await Promise.all(workers.map((client) => client.open(MESH, LOG)));
  await Promise.all(sources.map((one) => one.need(['a'])));
  desk.gone(1);
  sources[1].close();
  await turns();
  t.ok(state.closed, 'nobody has it any more');

  const again = mesh();
  const [only] = again.workers;
  await (await only.open(MESH, LOG)).need(['a']);
  again.desk.gone(1);
  await turns();
  t.notOk(again.state.closed);
  again.desk.close();
  await turns();
  t.ok(again.state.closed);
});

t.test('what the source says is what the worker hears', async (t) => {
  const { workers, state } = mesh();
  state.fails = true;
  const opened = await workers[0].open(MESH, LOG);
  await t.rejects(opened.need(['a']), /the token was used before/);
});

import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import type { ListenerSpec } from '../../../src/runtime/listener-spec.ts';
import { Ports } from '../../../src/runtime/workers/ports.ts';
import { closedPort } from '../../e2e/support/sockets.ts';

function spec(key: string, port: number, host = '127.0.0.1'): ListenerSpec {
  return { key, host, port, at: { file: 'shop.yaml', line: 3, column: 1 } } as ListenerSpec;
}

async function ports(t: Test): Promise<Ports> {
  const opened = new Ports();
  t.teardown(() => opened.close());
  return opened;
}

t.test('one socket for an address, kept by later configs, whoever listens there', async (t) => {
  const opened = await ports(t);
  const port = await closedPort();
  const first = await opened.prepare([spec('gateway/a/http', port)]);
  t.strictSame(first.problems, []);
  t.strictSame(opened.addresses(), {}, 'not in force yet');
  const handle = opened.handleOf(spec('gateway/a/http', port));
  first.commit();
  t.strictSame(opened.addresses(), { 'gateway/a/http': { host: '127.0.0.1', port } });
  const second = await opened.prepare([spec('gateway/b/http', port), spec('gateway/b/more', 0)]);
  t.equal(opened.handleOf(spec('gateway/b/http', port)), handle);
  second.commit();
  t.not(opened.addresses()['gateway/b/more'].port, 0);
  t.throws(() => opened.handleOf(spec('gateway/a/other', 1)), /no socket was opened for listener gateway\/a\/other/);
});

t.test('what was abandoned is free, and what was in force stays', async (t) => {
  const opened = await ports(t);
  const [kept, tried] = [await closedPort(), await closedPort()];
  (await opened.prepare([spec('a', kept)])).commit();
  const next = await opened.prepare([spec('b', tried)]);
  next.abandon();
  t.throws(() => opened.handleOf(spec('b', tried)));
  t.ok(opened.handleOf(spec('a', kept)));
});

t.test('addresses that cannot be had are problems at their listener', async (t) => {
  const opened = await ports(t);
  const taken = createServer();
  await new Promise<void>((resolve) => {
    taken.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  const { problems } = await opened.prepare([spec('a', port), spec('b', 0, '192.0.2.1')]);
  t.match(problems, [
    {
      message: /^listener a cannot listen on 127\.0\.0\.1:\d+: the port is taken by another process$/,
      place: { line: 3 },
    },
    { message: /^listener b cannot listen on 192\.0\.2\.1:0: this machine has no such address$/ },
  ]);
});

t.test('an address that overlaps one in force is told apart from another process', async (t) => {
  const opened = new Ports(async (host, port) => {
    if (host === '0.0.0.0') throw Object.assign(new Error('EADDRINUSE'), { code: 'EADDRINUSE' });
    return { address: { host, port }, handle: {}, close() {} };
  });
  (await opened.prepare([spec('a', 80)])).commit();
  const { problems } = await opened.prepare([spec('a', 80, '0.0.0.0')]);
  t.match(problems, [{ message: /or by another address of this one: with workers that takes a restart/ }]);
});

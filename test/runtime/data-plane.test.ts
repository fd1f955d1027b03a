// What becomes of a request that fails where nobody is left to answer it.
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import type { RequestExchange } from '../../src/proxy/exchange.ts';
import { DataPlane } from '../../src/runtime/data-plane.ts';
import type { ListenerPlan } from '../../src/runtime/listener-plan.ts';
import type { Connection } from '../../src/runtime/listener-spec.ts';
import type { Snapshot } from '../../src/runtime/snapshot.ts';
import { specOf } from '../support/open-listener.ts';
import { exchange } from '../support/raw-client.ts';

/** A data plane behind a server, with this plan for its only listener. */
async function serve(t: Test, plan: object) {
  const lines: { level: number; msg: string; requestId: string; err: { message: string } }[] = [];
  const plane = new DataPlane(new Registry(), pino({}, { write: (line) => void lines.push(JSON.parse(line)) }));
  const listener = specOf();
  const plans = new Map([
    [
      listener.key,
      { spec: listener, trust: { trusts: () => false }, fixedHost: null, egress: null, addresses: null, ...plan } as
        | ListenerPlan
        | object,
    ],
  ]);
  plane.swap({ plans, activate: () => {}, retire: () => {} } as unknown as Snapshot);
  const connectionOf = (): Connection => ({
    listener,
    scheme: 'http',
    remoteAddress: '127.0.0.1',
    localPort: 0,
    peer: null,
    serverName: null,
  });
  const server = createServer((req, res) => plane.request(connectionOf(), req, res));
  server.on('upgrade', (req: IncomingMessage, socket, head) => plane.upgrade(connectionOf(), req, socket, head));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { plane, lines, port: (server.address() as AddressInfo).port };
}

const UPGRADE = 'Connection: upgrade\r\nUpgrade: websocket\r\n';

t.test('a request that fails on its way into its chain loses its connection, is logged, and ends once', async (t) => {
  const ended: string[] = [];
  let left = 0;
  const entered: RequestExchange[] = [];
  const broken = {
    leave: () => left++,
    enter(exchange: RequestExchange): void {
      entered.push(exchange);
      exchange.chain = this as never;
      exchange.controller = { abort: (reason: Error) => ended.push(reason.message) } as never;
      throw new Error('the chain is broken');
    },
  };
  const { plane, lines, port } = await serve(t, { table: { lookup: () => null }, fallback: broken });
  for (const offer of ['', UPGRADE]) {
    t.equal(await exchange(port, `GET / HTTP/1.1\r\nHost: a\r\n${offer}\r\n`), '');
  }
  t.equal(plane.inFlight, 0);
  await plane.whenIdle();
  t.equal(left, 2, 'the chain counts each of them out once');
  t.equal(ended.length, 2, 'what it had begun upstream is let go');
  t.strictSame(
    entered.map(({ ended, reason }) => [ended, reason]),
    [
      [true, 'internal'],
      [true, 'internal'],
    ],
  );
  t.match(lines, [
    { level: 50, requestId: entered[0].id, err: { message: 'the chain is broken' } },
    { level: 50, requestId: entered[1].id, err: { message: 'the chain is broken' } },
  ]);
});

t.test('a look-up that throws does the same, and the next request finds everything as it was', async (t) => {
  let calls = 0;
  const table = {
    lookup() {
      if (++calls === 1) throw new Error('the table is broken');
      return null;
    },
  };
  const fallback = {
    leave: () => {},
    enter: ({ res }: RequestExchange) => res.writeHead(404, { connection: 'close' }).end(),
  };
  const { plane, lines, port } = await serve(t, { table, fallback });
  const get = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
  t.equal(await exchange(port, get), '');
  t.match(await exchange(port, get), /^HTTP\/1\.1 404/);
  await plane.whenIdle();
  t.equal(plane.inFlight, 0);
  t.match(lines, [{ level: 50, msg: /on its way into its chain/, err: { message: 'the table is broken' } }]);
});

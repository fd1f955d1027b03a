// Which endpoint a connection goes to, over real sockets: the next one where one fails, none twice, and what is held against whom.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { SelvedgeError } from '../../../src/errors.ts';
import type { Attempt } from '../../../src/plugin.ts';
import { outlierPolicy } from '../../../src/policies/outlier-detection.ts';
import { compileServices } from '../../../src/upstream/compile-services.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import type { Service } from '../../../src/upstream/service.ts';
import { connectTcp } from '../../../src/upstream/tcp/connect-tcp.ts';
import { http1Transport } from '../../../src/upstream/transport.ts';
import { closedPort, eventually } from '../../e2e/support/sockets.ts';
import { fakeWheel } from '../../support/fake-clock.ts';
import { seededRandom, serviceConfig } from '../../support/fake-upstream.ts';

type Config = ReturnType<typeof serviceConfig>;

async function listen(t: Test): Promise<{ address: string; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
}

async function dead(): Promise<string> {
  return `127.0.0.1:${await closedPort()}`;
}

function serviceOf(addresses: readonly string[], rest: Partial<Config> = {}) {
  const { wheel, clock } = fakeWheel();
  const config = serviceConfig([...addresses], { protocol: 'tcp', ...rest });
  const deps = { wheel, makeTransport: http1Transport(wheel), random: seededRandom(1), idOf: (name: string) => name };
  return { clock, service: compileServices([config], null, deps).get('orders') as Service };
}

interface Outcome {
  readonly endpoint: Endpoint | null;
  readonly code: string | null;
  readonly outcomes: readonly string[];
}

async function call(t: Test, service: Service): Promise<Outcome> {
  const attempts: Attempt[] = [];
  const { endpoint, code } = await new Promise<{ endpoint: Endpoint | null; code: string | null }>((resolve) => {
    connectTcp(
      { service, caller: null, hashKey: 1, attempts },
      {
        connected(line, endpoint) {
          t.teardown(() => line.socket.destroy());
          resolve({ endpoint, code: null });
        },
        failed: ({ code }: SelvedgeError) => resolve({ endpoint: null, code }),
      },
    );
  });
  return { endpoint, code, outcomes: attempts.map(({ outcome }) => outcome) };
}

t.test('an endpoint that refuses is left for the next, and what was counted for it is given back', async (t) => {
  const [gone, { address }] = [await dead(), await listen(t)];
  const { service } = serviceOf([gone, address]);
  const outcome = await call(t, service);
  t.equal(outcome.endpoint?.address, address);
  t.strictSame(outcome.outcomes, ['upstream_refused', 'ok']);
  t.strictSame(
    service.endpoints.map(({ inFlight }) => inFlight),
    [0, 1],
  );
});

t.test('three endpoints are tried, each once', async (t) => {
  const { service } = serviceOf(await Promise.all([dead(), dead(), dead(), dead()]));
  const { code, outcomes } = await call(t, service);
  t.equal(code, 'SLV_UPSTREAM_REFUSED');
  t.equal(outcomes.length, 3);
  const two = serviceOf(await Promise.all([dead(), dead()]));
  t.equal((await call(t, two.service)).outcomes.length, 2);
});

t.test('failures in a row leave an endpoint out', async (t) => {
  const [gone, { address }] = [await dead(), await listen(t)];
  const { service } = serviceOf([gone, address], {
    outlierDetection: outlierPolicy({ consecutive5xx: 2, maxEjected: '50%' }),
  });
  for (let index = 0; index < 4; index++) await call(t, service);
  t.ok(service.endpoints[0].health.ejected);
  t.strictSame((await call(t, service)).outcomes, ['ok'], 'it is not tried any more');
});

t.test('a full endpoint is passed by, and with all of them full there is none', async (t) => {
  const [one, two] = [await listen(t), await listen(t)];
  const connections = { ...serviceConfig([]).connections, max: 1 };
  const { service } = serviceOf([one.address, two.address], { connections });
  const taken = [await call(t, service), await call(t, service)].map(({ endpoint }) => endpoint?.address);
  t.strictSame(taken.sort(), [one.address, two.address].sort());
  t.match(await call(t, service), { code: 'SLV_POOL_FULL', outcomes: [] });
});

t.test('without an endpoint that is known to serve there is nothing to try', async (t) => {
  const { address } = await listen(t);
  const { service } = serviceOf([address]);
  service.endpoints[0].health.check(false, 0);
  t.match(await call(t, service), { code: 'SLV_NO_ENDPOINT', outcomes: [] });
});

t.test('an endpoint that takes too long is given up', async (t) => {
  const { address, sockets } = await listen(t);
  const { service, clock } = serviceOf([address]);
  const endpoint = service.endpoints[0];
  // TLS that nobody answers: the connection stands, the handshake does not end.
  Object.assign(endpoint, { tls: { rejectUnauthorized: false } });
  const outcome = call(t, service);
  await eventually(() => sockets.length === 1, 'connected');
  clock.advance(5_100);
  t.match(await outcome, { code: 'SLV_CONNECT_TIMEOUT', outcomes: ['connect_timeout'] });
  t.equal(endpoint.inFlight, 0);
});

t.test('who gives up hears nothing more, and holds nothing', async (t) => {
  const { address, sockets } = await listen(t);
  const { service } = serviceOf([address]);
  const attempts: Attempt[] = [];
  const giveUp = connectTcp(
    { service, caller: null, hashKey: 1, attempts },
    { connected: () => t.fail('connected'), failed: () => t.fail('failed') },
  );
  giveUp();
  t.equal(service.endpoints[0].inFlight, 0);
  t.strictSame(
    attempts.map(({ outcome }) => outcome),
    ['client_aborted'],
  );
  await eventually(() => sockets.every(({ destroyed, readableEnded }) => destroyed || readableEnded), 'it is gone');
});

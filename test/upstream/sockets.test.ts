import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import t from 'tap';
import type { UpstreamTls } from '../../src/config/model.ts';
import type { DispatchOptions } from '../../src/dispatch.ts';
import { SelvedgeError } from '../../src/errors.ts';
import { TimerWheel } from '../../src/timer-wheel.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { buildStack } from '../../src/upstream/stack.ts';
import { http1Transport } from '../../src/upstream/transport.ts';
import { makeCall, makeOptions, Recorder, seededRandom, serviceConfig } from '../support/fake-upstream.ts';
import { TestCa } from '../support/tls-fixture.ts';

const stack = buildStack({ perRequest: [], perAttempt: [] });

type Teardown = (fn: () => unknown) => void;

async function listen(
  t: { teardown: Teardown },
  listener: RequestListener,
  server: Server = createServer(listener),
): Promise<{ server: Server; address: string }> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { server, address: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** An address that nobody listens on. */
async function deadAddress(): Promise<string> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

function setUp(t: { teardown: Teardown }, addresses: string[], tls: UpstreamTls | null = null) {
  const wheel = new TimerWheel();
  const deps = { wheel, makeTransport: http1Transport(wheel), random: seededRandom(1) };
  const service = compileServices([serviceConfig(addresses, { tls })], null, deps).get('orders')!;
  t.teardown(() => service.destroy());
  const send = (callRest: Partial<Call> = {}, optionsRest: Partial<DispatchOptions> = {}) => {
    const client = new Recorder();
    const call = makeCall(service, callRest);
    const ended = new Promise<void>((resolve) => {
      for (const last of ['onRequestUpgrade', 'onResponseEnd', 'onResponseError'] as const) {
        const record = client[last].bind(client) as (...args: unknown[]) => void;
        client[last] = (...args: unknown[]) => {
          record(...args);
          resolve();
        };
      }
    });
    stack(makeOptions(call, optionsRest), client);
    return { client, call, ended };
  };
  return { wheel, service, send };
}

t.test('a refused endpoint beside a good one costs no request', async (t) => {
  const { address } = await listen(t, (req, res) => {
    let size = 0;
    req.on('data', (chunk) => {
      size += chunk.length;
    });
    req.on('end', () => res.end(`got ${size}`));
  });
  const { service, send } = setUp(t, [await deadAddress(), address]);
  const requests = Array.from({ length: 20 }, (_, index) =>
    index % 2 === 0
      ? send()
      : send({}, { method: 'POST', body: Readable.from([Buffer.from('hello')]), contentLength: 5 }),
  );
  await Promise.all(requests.map(({ ended }) => ended));
  for (const [index, { client }] of requests.entries()) {
    t.same(client.events, ['start 200', 'end'], `request ${index}`);
    t.equal(client.body, `got ${index % 2 === 0 ? 0 : 5}`);
  }
  t.ok(requests.some(({ call }) => call.attempts.length === 2));
  t.ok(service.endpoints.every(({ inFlight }) => inFlight === 0));
});

t.test('a body that breaks off is an error after the head, never an end', async (t) => {
  const { address } = await listen(t, (_req, res) => {
    res.writeHead(200, { 'content-length': '100' });
    res.write('only this');
    setImmediate(() => res.destroy());
  });
  const { service, send } = setUp(t, [address]);
  const { client, call, ended } = send();
  await ended;
  t.equal(client.events[0], 'start 200');
  t.equal(client.events.length, 2);
  t.equal(client.error?.statusCode, 502);
  t.match(call.attempts, [{ status: 200, outcome: /^upstream_/ }]);
  t.equal(service.endpoints[0].inFlight, 0);
});

t.test('a service that does not answer is let go at once when the time is up', async (t) => {
  let closed = () => {};
  const upstreamClosed = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const { address } = await listen(t, (req) => req.socket.once('close', closed));
  const { service, send, wheel } = setUp(t, [address]);
  const { client, ended } = send({ timeouts: { requestMs: 60, perTryMs: 0, idleMs: 0 } });
  await ended;
  t.match(client.error, { code: 'SLV_UPSTREAM_TIMEOUT', statusCode: 504 });
  await upstreamClosed;
  t.equal(service.endpoints[0].inFlight, 0);
  t.equal(service.describe().endpoints[0].active, 0);
  t.ok(wheel.waiting <= 1);
});

t.test('a client that leaves closes the upstream connection', async (t) => {
  let closed = () => {};
  const upstreamClosed = new Promise<void>((resolve) => {
    closed = resolve;
  });
  let arrived = () => {};
  const requestArrived = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const { address } = await listen(t, (req) => {
    req.socket.once('close', closed);
    arrived();
  });
  const { service, send } = setUp(t, [address]);
  const { client, ended } = send();
  await requestArrived;
  client.controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'gone'));
  await ended;
  await upstreamClosed;
  t.equal(client.error?.code, 'SLV_CLIENT_ABORTED');
  t.equal(service.endpoints[0].inFlight, 0);
});

t.test('closing a service waits for its requests and leaves no connection', async (t) => {
  let answer = () => {};
  let arrived = () => {};
  const requestArrived = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const { server, address } = await listen(t, (_req, res) => {
    answer = () => res.end('done');
    arrived();
  });
  const { service, send } = setUp(t, [address]);
  const { client, ended } = send();
  await requestArrived;
  const closing = service.close();
  answer();
  await ended;
  t.equal(client.body, 'done');
  await closing;
  for (let wait = 0; wait < 100 && (await connectionsOf(server)) > 0; wait++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.equal(await connectionsOf(server), 0);
});

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}

t.test(
  'TLS to a service is verified: by its CA, by name or address, and switched off only when the config says so',
  async (t) => {
    const ca = new TestCa(t);
    const { cert, key } = ca.issue({ name: 'orders', altNames: ['DNS:orders.example.com', 'IP:127.0.0.1'] });
    const listener: RequestListener = (req, res) => res.end(String((req.socket as TLSSocket).servername));
    const secure = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, listener);
    const { address } = await listen(t, listener, secure);
    const tls: UpstreamTls = { serverName: null, ca: ca.cert, cert: null, key: null, verify: true };
    const cases: [string, UpstreamTls, string][] = [
      ['by address', tls, 'false'],
      ['by name', { ...tls, serverName: 'orders.example.com' }, 'orders.example.com'],
      ['another name', { ...tls, serverName: 'carts.example.com' }, 'SLV_UPSTREAM_TLS'],
      ['another address', { ...tls, serverName: '127.0.0.2' }, 'SLV_UPSTREAM_TLS'],
      ['unknown CA', { ...tls, ca: null }, 'SLV_UPSTREAM_TLS'],
      ['not verified', { ...tls, ca: null, verify: false }, 'false'],
    ];
    for (const [what, settings, expected] of cases) {
      const { client, ended } = setUp(t, [address], settings).send();
      await ended;
      t.equal(client.error?.code ?? client.body, expected, what);
    }
  },
);

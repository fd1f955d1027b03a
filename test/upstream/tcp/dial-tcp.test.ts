// One connection to a hop, with a hop in the test's hands: what it says before the first byte, and what it does not.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer as createPlain, type Server } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import type { SelvedgeError } from '../../../src/errors.ts';
import { compileServices } from '../../../src/upstream/compile-services.ts';
import type { Endpoint } from '../../../src/upstream/endpoint.ts';
import { dialTcp, type TcpLine } from '../../../src/upstream/tcp/dial-tcp.ts';
import { http1Transport } from '../../../src/upstream/transport.ts';
import { fakeWheel } from '../../support/fake-clock.ts';
import { endpointConfig, serviceConfig } from '../../support/fake-upstream.ts';
import { TestCa } from '../../support/tls-fixture.ts';

const { wheel } = fakeWheel();

async function listen(t: Test, server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A hop that agrees on these protocols and then does what the test wants. */
async function hop(t: Test, serve: (socket: TLSSocket) => void, ALPNProtocols = ['selvedge-tcp']) {
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'hop', altNames: ['DNS:hop.test'] });
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key), ALPNProtocols }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  server.on('tlsClientError', () => {});
  return { port: await listen(t, server), ca: readFileSync(ca.cert) };
}

function endpointAt(port: number, mtls: 'strict' | 'permissive'): Endpoint {
  const endpoint = endpointConfig('10.0.0.5:5432', { hop: `127.0.0.1:${port}` });
  const deps = { wheel, makeTransport: http1Transport(wheel), idOf: (name: string) => name };
  const config = serviceConfig([endpoint], { protocol: 'tcp', mtls });
  return compileServices([config], null, deps).get('orders')?.endpoints[0] as Endpoint;
}

function dial(t: Test, endpoint: Endpoint, ca: Buffer | null): Promise<TcpLine | string> {
  const caller = {
    id: 'spiffe://shop.internal/service/cart',
    version: 1,
    connectionOptions: () => {
      if (ca === null) throw new Error('there is no certificate');
      return { ca, servername: 'hop.test' };
    },
  };
  return new Promise((resolve) => {
    dialTcp(endpoint, caller, wheel, {
      opened(line) {
        t.teardown(() => line.socket.destroy());
        resolve(line);
      },
      failed: ({ code }: SelvedgeError) => resolve(code),
    });
  });
}

t.test('it is open once the hop says so, and what follows belongs to the service', async (t) => {
  const { port, ca } = await hop(t, (socket) => socket.write('\0ready'));
  const line = (await dial(t, endpointAt(port, 'strict'), ca)) as TcpLine;
  const [chunk] = await once(line.socket, 'data');
  t.equal(String(chunk), 'ready');
  t.not(line.socket, line.wire);
});

t.test('a hop of another make says nothing and is open at once', async (t) => {
  const { port, ca } = await hop(t, (socket) => socket.write('ready'), []);
  const line = (await dial(t, endpointAt(port, 'strict'), ca)) as TcpLine;
  const [chunk] = await once(line.socket, 'data');
  t.equal(String(chunk), 'ready');
});

for (const [what, serve, code] of [
  ['that ends', (socket) => socket.end(), 'SLV_UPSTREAM_RESET'],
  ['that is cut', (socket) => socket.destroy(), 'SLV_UPSTREAM_RESET'],
  ['that lets nobody in', (socket) => socket.end(Buffer.of(1)), 'SLV_FORBIDDEN'],
  ['that says what nobody knows', (socket) => socket.end(Buffer.of(9)), 'SLV_UPSTREAM_INVALID'],
] as readonly [string, (socket: TLSSocket) => void, string][]) {
  t.test(`a hop ${what} is ${code}`, async (t) => {
    const { port, ca } = await hop(t, serve);
    t.equal(await dial(t, endpointAt(port, 'strict'), ca), code);
  });
}

t.test('a hop that speaks HTTP alone is none', async (t) => {
  const { port, ca } = await hop(t, () => t.fail('it came as far as that'), ['http/1.1']);
  for (const mode of ['strict', 'permissive'] as const)
    t.equal(await dial(t, endpointAt(port, mode), ca), 'SLV_UPSTREAM_TLS', mode);
});

t.test('a certificate that does not verify is never answered by going plain', async (t) => {
  const { port } = await hop(t, () => {});
  const { ca } = await hop(t, () => {});
  for (const mode of ['strict', 'permissive'] as const)
    t.equal(await dial(t, endpointAt(port, mode), ca), 'SLV_UPSTREAM_TLS', mode);
});

t.test(
  'what does not speak TLS is called plainly while that is permitted, and for a while without asking',
  async (t) => {
    let connections = 0;
    const port = await listen(
      t,
      createPlain((socket) => {
        connections++;
        socket.on('error', () => {}).end('plain');
      }),
    );
    const { ca } = await hop(t, () => {});
    t.equal(await dial(t, endpointAt(port, 'strict'), ca), 'SLV_UPSTREAM_TLS');
    const endpoint = endpointAt(port, 'permissive');
    for (const expected of [3, 4]) {
      const line = (await dial(t, endpoint, ca)) as TcpLine;
      const [chunk] = await once(line.socket, 'data');
      t.equal(String(chunk), 'plain');
      t.equal(connections, expected);
    }
  },
);

t.test('without a certificate of our own nothing is sent', async (t) => {
  const { port } = await hop(t, () => t.fail('dialled'));
  t.equal(await dial(t, endpointAt(port, 'strict'), null), 'SLV_UPSTREAM_TLS');
});

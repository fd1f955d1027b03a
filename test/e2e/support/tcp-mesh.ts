// A mesh of two hops around a service that is no HTTP: orders calls db, each hop a Selvedge of its own in this process.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import { type ConfigInput, createSelvedge, type Selvedge } from '../../../src/index.ts';
import { TestAuthority, TestSource } from '../../support/mesh-authority.ts';
import { freePort } from './ports.ts';

export interface App {
  readonly port: number;
  /** Connections that have said something: others are the hop's, which looks whether somebody listens. */
  readonly seen: Socket[];
  close(): Promise<void>;
}

/** A server that gets half-open sockets; closed with the test. */
export async function app(t: Test, serve: (socket: Socket) => void, port = 0): Promise<App> {
  const seen: Socket[] = [];
  const all = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    all.add(socket);
    socket.once('data', () => seen.push(socket));
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  await once(server.listen(port, '127.0.0.1'), 'listening');
  const close = async (): Promise<void> => {
    for (const socket of all) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  t.teardown(close);
  return { port: (server.address() as AddressInfo).port, seen, close };
}

export function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** A connection that is not closed before the test is over, and whose failures are for the test to look for. */
export async function open(t: Test, port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  // Where it is cut at once, that may come before it is known to be open.
  await once(socket, 'connect').catch(() => {});
  return socket;
}

/** What came until the other side ended; null: it was cut instead. */
export async function readAll(socket: Socket): Promise<string | null> {
  let received = '';
  socket.setEncoding('latin1').on('data', (chunk) => {
    received += chunk;
  });
  return new Promise((resolve) => {
    socket.once('end', () => resolve(received));
    if (socket.destroyed) resolve(null);
    else socket.once('close', () => resolve(null));
  });
}

/** Sends, and resolves with as many bytes of what comes back. */
export async function ask(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  let received = '';
  while (received.length < text.length) {
    const [chunk] = await once(socket, 'data');
    received += String(chunk);
  }
  return received;
}

export interface MeshOptions {
  readonly mtls?: string;
  /** The endpoints of db; default: the one behind the hop that is started. */
  readonly endpoints?: (inbound: number) => readonly unknown[];
  readonly app: number;
  readonly db?: object;
  readonly top?: object;
  /** Its certificate does not come from the authority of the mesh, or says somebody else. */
  readonly sources?: { readonly orders?: TestSource; readonly db?: TestSource };
  readonly authority?: TestAuthority;
}

export interface TcpMesh {
  readonly authority: TestAuthority;
  readonly orders: Selvedge;
  readonly db: Selvedge;
  /** Where the application of orders reaches db. */
  readonly local: number;
  /** Where the hop of db listens. */
  readonly inbound: number;
  /** Change it and call `reload`. */
  readonly config: Record<string, never>;
}

export async function tcpMesh(t: Test, options: MeshOptions): Promise<TcpMesh> {
  const inbound = await freePort();
  const address = `127.0.0.1:${options.app}`;
  const endpoints = options.endpoints?.(inbound) ?? [{ address, hop: `127.0.0.1:${inbound}` }];
  const config = {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    drain: { grace: '0s', timeout: '2s' },
    mesh: { trustDomain: 'shop.internal', mtls: options.mtls ?? 'strict' },
    services: {
      db: {
        protocol: 'tcp',
        endpoints,
        internal: { inbound: { host: '127.0.0.1', port: inbound }, app: address },
        ...options.db,
      },
      cart: { endpoints: ['127.0.0.1:9'] },
      orders: {
        endpoints: ['127.0.0.1:9'],
        internal: {
          inbound: { host: '127.0.0.1', port: await freePort() },
          app: '127.0.0.1:9',
          outbound: { port: 0, ports: { db: '127.0.0.1:0' } },
        },
      },
    },
    ...options.top,
  } as unknown as ConfigInput;
  const authority = options.authority ?? (await TestAuthority.make('shop.internal'));
  const start = async (name: 'db' | 'orders'): Promise<Selvedge> => {
    const source = options.sources?.[name] ?? new TestSource(authority);
    const selvedge = await createSelvedge({
      config,
      roles: { gateways: [], internal: [name] },
      logger: false,
      identity: async () => source,
    });
    t.teardown(() => selvedge.close({ timeoutMs: 0 }));
    await selvedge.start();
    return selvedge;
  };
  const db = await start('db');
  const orders = await start('orders');
  const local = orders.addresses()['outbound/orders/db'].port;
  return { authority, orders, db, local, inbound, config: config as never };
}

/** Sums of a counter by one label, or by several joined with a space. */
export async function counted(selvedge: Selvedge, name: string, ...labels: string[]): Promise<Record<string, number>> {
  const metric = await selvedge.registry.getSingleMetric(name)?.get();
  const sums: Record<string, number> = {};
  for (const { labels: found, value } of metric?.values ?? []) {
    const key = labels.map((label) => (found as Record<string, string>)[label]).join(' ');
    sums[key] = (sums[key] ?? 0) + value;
  }
  return sums;
}

// A listener on a free port whose requests end in a recorder instead of a data plane.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import pino from 'pino';
import type { Test } from 'tap';
import type { Limits } from '../../src/config/model.ts';
import type { Code } from '../../src/errors.ts';
import { HOP_LIMITS } from '../../src/internal/internal.ts';
import { Listener } from '../../src/runtime/listener.ts';
import type { Connection, ListenerSpec, RequestSink } from '../../src/runtime/listener-spec.ts';

export const LIMITS: Limits = {
  ...HOP_LIMITS,
  headerBytes: 8_192,
  headerCount: 20,
  urlBytes: 1_024,
  headerTimeoutMs: 10_000,
};

export function specOf(changes: Partial<ListenerSpec> = {}): ListenerSpec {
  return {
    key: 'gateway/public/http',
    role: 'gateway',
    owner: 'public',
    name: 'http',
    host: '127.0.0.1',
    port: 0,
    tls: null,
    mesh: null,
    meshDomain: 'mesh.internal',
    limits: LIMITS,
    clientAddress: { trustedProxies: [], header: 'x-forwarded-for', hops: null, proxyProtocol: false },
    fixedService: null,
    at: { file: 'selvedge.yaml', line: 1, column: 1 },
    ...changes,
  };
}

export type Handler = (req: IncomingMessage, res: ServerResponse, connection: Connection) => void;

/** Remembers what it was given and answers requests with `handler`. */
export class Recorder implements RequestSink {
  readonly requests: string[] = [];
  readonly refused: Code[] = [];
  readonly upgrades: { readonly req: IncomingMessage; readonly socket: Duplex; readonly head: Buffer }[] = [];
  readonly connects: string[] = [];
  connection: Connection | null = null;
  handler: Handler = (req, res) => {
    req.resume();
    req.on('end', () => res.end('served'));
  };

  accept(): void {}

  request(connection: Connection, req: IncomingMessage, res: ServerResponse): void {
    this.connection = connection;
    this.requests.push(`${req.method} ${req.url}`);
    req.on('error', () => undefined);
    this.handler(req, res, connection);
  }

  upgrade(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.connection = connection;
    this.upgrades.push({ req, socket, head });
    socket.end(`HTTP/1.1 101 Switching Protocols\r\nupgrade: ${req.headers.upgrade}\r\n\r\n`);
  }

  connect(connection: Connection, req: IncomingMessage, _socket: Duplex, _head: Buffer, open: () => void): void {
    this.connection = connection;
    this.connects.push(req.url as string);
    open();
  }

  rejected(_listener: ListenerSpec, code: Code): void {
    this.refused.push(code);
  }
}

export async function openListener(t: Test, changes: Partial<ListenerSpec> = {}) {
  const sink = new Recorder();
  const listener = new Listener(specOf(changes), sink, pino({ level: 'silent' }));
  await listener.bind();
  t.teardown(() => listener.destroy());
  const { port } = listener.address() as { port: number };
  return { sink, listener, port };
}

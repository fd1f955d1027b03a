// Clients and servers that say exactly the bytes they are told to, and nothing a polite library would.
import { createServer as createHttp, type Server as HttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';
import { RawClient } from '../../support/raw-client.ts';

export { RawClient };

/** An HTTP upstream on a free port, closed with the test. */
export async function httpUpstream(t: Test, listener: RequestListener): Promise<{ port: number; server: HttpServer }> {
  const server = createHttp(listener);
  return { port: await open(t, server), server };
}

/** An upstream that gets the raw socket once a whole request head has arrived. */
export async function rawUpstream(
  t: Test,
  respond: (socket: Socket, head: string) => void,
): Promise<{ port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let head = '';
    socket.on('data', (chunk) => {
      if (head.includes('\r\n\r\n')) return;
      head += chunk.toString('latin1');
      if (head.includes('\r\n\r\n')) {
        const whole = head;
        head = '';
        respond(socket, whole);
      }
    });
  });
  return { port: await open(t, server, sockets), sockets };
}

async function open(t: Test, server: Server, sockets: Set<Socket> = new Set()): Promise<number> {
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A port where nobody listens: it was free a moment ago. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Sends the bytes and returns everything until the server closes, or until a whole response with a body length is there. */
export async function exchange(t: Test, port: number, bytes: string): Promise<string> {
  const client = await RawClient.open(t, port);
  return client.send(bytes).until(isWhole);
}

function isWhole(received: string): boolean {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const head = received.slice(0, end);
  if (/^HTTP\/1\.1 1\d\d/.test(head)) return isWhole(received.slice(end + 4));
  const length = /\r\ncontent-length: (\d+)/i.exec(head);
  if (length !== null) return received.length >= end + 4 + Number(length[1]);
  return /transfer-encoding: chunked/i.test(head) && received.endsWith('0\r\n\r\n');
}

export function statusOf(response: string): number {
  return Number(/^HTTP\/1\.[01] (\d{3})/.exec(response)?.[1] ?? 0);
}

/** Resolves when the condition holds; polls on the event loop, for facts that no event tells. Fails after `withinMs`. */
export async function eventually(condition: () => boolean, what: string, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

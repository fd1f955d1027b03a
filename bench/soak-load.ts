// The clients of the soak: a steady rate over kept connections, and one request in a hundred is cut off in the middle of its answer or body.
import { connect, type Socket } from 'node:net';

export interface SoakLoad {
  readonly port: number;
  readonly host: string;
  readonly rate: number;
  readonly connections: number;
  readonly seconds: number;
}

export interface SoakCounts {
  requests: number;
  /** Answers of 2xx that were read to their end. */
  good: number;
  /** Clients that went away on purpose. */
  cut: number;
  /** No answer or another one than 2xx, to a client that stayed. */
  failed: number;
  /** Not sent in time, because every connection was busy: the machine does not carry the rate. */
  late: number;
  /** The first failures, in words. */
  readonly failures: string[];
}

interface Kind {
  readonly request: Buffer;
  readonly cut: 'answer' | 'body' | null;
}

const TICK_MS = 5;
/** A request that has no answer for so long has failed. */
const PATIENCE_MS = 20_000;
const MAX_TOLD = 20;
const UPLOAD = 64 * 1024;

/** What a hundred requests are, in turn. Of the two that are cut, one goes every second time: that makes one in a hundred. */
function kinds(host: string): readonly Kind[] {
  const get = (path: string): Buffer => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  const head = `POST /orders HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${UPLOAD}\r\n\r\n`;
  const post = Buffer.concat([Buffer.from(head), Buffer.alloc(UPLOAD, 'x')]);
  const hundred = (at: number): Kind => {
    if (at % 20 === 7) return { request: get('/big'), cut: null };
    if (at % 20 === 13) return { request: post, cut: null };
    return { request: get(at % 3 === 0 ? '/orders' : `/page/${at}`), cut: null };
  };
  const first = Array.from({ length: 100 }, (_, at) => hundred(at));
  const second = [...first];
  first[50] = { request: get('/big'), cut: 'answer' };
  second[50] = { request: post.subarray(0, head.length + UPLOAD / 2), cut: 'body' };
  return [...first, ...second];
}

interface Client {
  readonly socket: Socket;
  kind: Kind | null;
  sentAt: number;
  head: string;
  /** Octets of the answer that are still to come; -1: its head is not there yet. */
  left: number;
}

/** Resolves once every request has its answer or has failed. `counts` is kept up to date meanwhile. */
export function soakLoad({ port, host, rate, connections, seconds }: SoakLoad, counts: SoakCounts): Promise<void> {
  const all = kinds(host);
  const clients = new Set<Client>();
  const idle: Client[] = [];
  const total = rate * seconds;

  const fail = (client: Client, why: string): void => {
    counts.failed += 1;
    if (counts.failures.length < MAX_TOLD) {
      const what = client.kind?.request.subarray(0, 30).toString('latin1').split('\r\n')[0];
      counts.failures.push(`${what}: ${why}`);
    }
    client.kind = null;
  };
  const leave = (client: Client): void => {
    clients.delete(client);
    client.socket.destroy();
  };
  const open = (): Client => {
    const socket = connect(port, '127.0.0.1').setNoDelay();
    const client: Client = { socket, kind: null, sentAt: 0, head: '', left: -1 };
    clients.add(client);
    socket.on('data', (chunk: Buffer) => read(client, chunk));
    socket.on('error', (error) => {
      if (client.kind !== null) fail(client, error.message);
    });
    socket.on('close', () => {
      if (client.kind !== null) fail(client, `closed ${client.left === -1 ? 'before its answer' : 'in its answer'}`);
      clients.delete(client);
      const at = idle.indexOf(client);
      if (at !== -1) idle.splice(at, 1);
    });
    return client;
  };
  const send = (client: Client, kind: Kind): void => {
    client.kind = kind;
    client.sentAt = performance.now();
    client.head = '';
    client.left = -1;
    // Half of the body has left when the client goes.
    client.socket.write(kind.request, () => {
      if (kind.cut === 'body') setTimeout(() => cut(client), TICK_MS);
    });
  };
  const cut = (client: Client): void => {
    // It may have failed meanwhile.
    if (client.kind === null) return;
    client.kind = null;
    counts.cut += 1;
    leave(client);
  };
  const read = (client: Client, chunk: Buffer): void => {
    if (client.kind === null || client.kind.cut === 'body') return;
    let { length } = chunk;
    if (client.left === -1) {
      client.head += chunk.toString('latin1');
      const end = client.head.indexOf('\r\n\r\n');
      if (end === -1) return;
      const size = /\r\ncontent-length: (\d+)/i.exec(client.head.slice(0, end))?.[1];
      if (!/^HTTP\/1\.1 2/.test(client.head) || size === undefined) {
        fail(client, client.head.slice(0, 300).replaceAll('\r\n', ' | '));
        leave(client);
        return;
      }
      client.left = Number(size);
      length = client.head.length - end - 4;
    }
    client.left -= length;
    if (client.kind.cut === 'answer') cut(client);
    if (client.kind === null || client.left > 0) return;
    counts.good += 1;
    client.kind = null;
    if (/\r\nconnection: close/i.test(client.head)) leave(client);
    else idle.push(client);
  };

  return new Promise((resolve) => {
    const startedAt = performance.now();
    let due = 0;
    const timer = setInterval(() => {
      const now = performance.now();
      while (due < total && startedAt + (due * 1_000) / rate <= now) {
        due += 1;
        const client = idle.shift() ?? (clients.size < connections ? open() : undefined);
        if (client === undefined) {
          counts.late += 1;
          continue;
        }
        send(client, all[counts.requests % all.length]);
        counts.requests += 1;
      }
      for (const client of clients) {
        if (client.kind === null || now - client.sentAt < PATIENCE_MS) continue;
        fail(client, `no answer for ${PATIENCE_MS / 1_000} s`);
        leave(client);
      }
      if (due < total || [...clients].some(({ kind }) => kind !== null)) return;
      clearInterval(timer);
      for (const client of clients) client.socket.destroy();
      resolve();
    }, TICK_MS);
  });
}

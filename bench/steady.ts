// A steady load over raw connections: requests leave at their times, so many a second, and each answer is timed.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface SteadyLoad {
  readonly port: number;
  /** The Host of the requests. */
  readonly host: string;
  readonly rate: number;
  readonly connections: number;
  readonly seconds: number;
}

export interface Steady {
  readonly requests: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const TICK_MS = 1;
const PATIENCE_MS = 5_000;

interface Client {
  readonly socket: Socket;
  dueAt: number;
  /** Octets of the answer that are still to come; -1: its head is not there yet. */
  left: number;
  head: string;
}

/** A request waits where every connection is busy, and that counts as its latency. Rejects when one fails: then no figure is worth anything. */
export async function steadyLoad({ port, host, rate, connections, seconds }: SteadyLoad): Promise<Steady> {
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const latencies: number[] = [];
  const waiting: number[] = [];
  const idle: Client[] = [];
  const sockets: Socket[] = [];
  const total = rate * seconds;
  let failed: (error: Error) => void = () => {};
  let finished: () => void = () => {};
  const over = new Promise<void>((resolve, reject) => {
    finished = resolve;
    failed = reject;
  });

  const send = (client: Client, dueAt: number): void => {
    client.dueAt = dueAt;
    client.left = -1;
    client.head = '';
    client.socket.write(request, 'latin1');
  };
  const answered = (client: Client): void => {
    latencies.push(performance.now() - client.dueAt);
    const dueAt = waiting.shift();
    if (dueAt === undefined) idle.push(client);
    else send(client, dueAt);
    if (latencies.length === total) finished();
  };
  const read = (client: Client, chunk: Buffer): void => {
    let { length } = chunk;
    if (client.left === -1) {
      client.head += chunk.toString('latin1');
      const end = client.head.indexOf('\r\n\r\n');
      if (end === -1) return;
      const status = client.head.slice(9, 12);
      const size = /\r\ncontent-length: (\d+)/i.exec(client.head)?.[1];
      if (status !== '200' || size === undefined)
        failed(new Error(`port ${port} answered ${client.head.slice(0, 300)}`));
      client.left = Number(size);
      length = client.head.length - end - 4;
    }
    client.left -= length;
    if (client.left === 0) answered(client);
  };

  for (let count = 0; count < connections; count++) {
    const socket = connect(port, '127.0.0.1').setNoDelay();
    sockets.push(socket);
    const client = { socket, dueAt: 0, left: 0, head: '' };
    await once(socket, 'connect');
    socket.on('data', (chunk: Buffer) => read(client, chunk));
    socket.on('error', failed);
    socket.on('close', () => failed(new Error(`port ${port} closed a connection`)));
    // Taken from the front: each in its turn, as many callers would.
    idle.push(client);
  }
  const startedAt = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    while (sent < total && startedAt + (sent * 1_000) / rate <= now) {
      sent += 1;
      const client = idle.shift();
      if (client === undefined) waiting.push(now);
      else send(client, now);
    }
  }, TICK_MS);
  const patience = setTimeout(() => failed(new Error('answers are missing')), seconds * 1_000 + PATIENCE_MS);
  try {
    await over;
  } finally {
    clearInterval(timer);
    clearTimeout(patience);
    for (const socket of sockets) socket.removeAllListeners('close').destroy();
  }
  latencies.sort((a, b) => a - b);
  const quantile = (share: number): number => latencies[Math.ceil(share * total) - 1];
  return { requests: total, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

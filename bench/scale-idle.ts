// What an idle connection costs a gateway: 10,000 clients, each of which has had one answer and stays.
import { execFileSync } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { rounded, table as tableOf } from './figures.ts';
import { memoryMiB, wrk } from './measure.ts';
import { BACKEND_PORT, nginxProxy, nginxVersion, startBackend, startNginx } from './nginx.ts';
import { BACKEND_CORE, PORTS, PROXY_CORE } from './processes.ts';
import type { Part } from './scale.ts';
import { startSelvedge, VERSION } from './selvedge.ts';

const CONNECTIONS = 10_000;
/** Descriptors of this process and of each proxy, beside the connections. */
const OTHERS = 500;
/** Clients from several addresses of the loopback network: one address has only so many ports. */
const ADDRESSES = 8;
const AT_ONCE = 50;
/** What came with the last connection is collected and given back. */
const SETTLE_MS = 3_000;

export interface Idle {
  readonly name: string;
  readonly version: string;
  readonly connections: number;
  /** Growth of resident memory. */
  readonly kibEach: number;
  readonly rssMiB: number;
}

export async function idleConnections({ dir, keep }: Part): Promise<readonly Idle[]> {
  const allowed = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }));
  const connections = Number.isNaN(allowed) ? CONNECTIONS : Math.min(CONNECTIONS, allowed - OTHERS);
  if (connections < CONNECTIONS)
    process.stderr.write(
      `only ${connections} connections: ulimit -n is ${allowed}, needed are ${CONNECTIONS + OTHERS}\n`,
    );
  await startBackend(dir, keep);
  const rows: Idle[] = [];
  const measure = async (name: string, version: string, pid: number, port: number): Promise<void> => {
    // It has served before: what the first thousand requests need anyway is not the cost of a connection.
    await wrk(`http://127.0.0.1:${port}/`, { connections: 32, seconds: 3, core: BACKEND_CORE, script: null });
    await wait(SETTLE_MS);
    const before = memoryMiB(pid).rss;
    const sockets = await openAll(port, connections);
    await wait(SETTLE_MS);
    const { rss } = memoryMiB(pid);
    const open = sockets.filter(({ readyState }) => readyState === 'open').length;
    for (const socket of sockets) socket.destroy();
    if (open < connections) throw new Error(`${name} closed ${connections - open} of ${connections} idle connections`);
    const kibEach = rounded(((rss - before) * 1024) / connections);
    rows.push({ name, version, connections, kibEach, rssMiB: Math.round(rss) });
  };
  const nginx = nginxVersion();
  if (nginx !== null) {
    const port = PORTS + 20;
    const server = nginxProxy(port, 'off');
    const shared = { dir, name: 'nginx', core: PROXY_CORE, keep, server, port };
    // It closes idle ones when fewer than a sixteenth of its places are free.
    const child = await startNginx({ ...shared, connections: 2 * CONNECTIONS });
    await measure('nginx', nginx, child.pid as number, port);
  }
  const port = PORTS + 21;
  const config = {
    version: 1,
    admin: { port: 0 },
    telemetry: { accessLog: false },
    gateways: {
      bench: {
        listeners: [{ name: 'http', host: '127.0.0.1', port }],
        limits: { connections: CONNECTIONS + OTHERS, keepAliveTimeout: '10m' },
      },
    },
    services: { app: { endpoints: [`127.0.0.1:${BACKEND_PORT}`] } },
    routes: [{ name: 'app', to: 'app' }],
  };
  const child = await startSelvedge({ dir, name: 'selvedge', config, port, keep });
  await measure('selvedge', VERSION, child.pid as number, port);
  process.stdout.write(
    tableOf(
      ['proxy', 'version', 'idle connections', 'KiB each', 'RSS MiB with them'],
      rows.map((row) => Object.values(row)),
    ),
  );
  return rows;
}

async function openAll(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  const open = async (): Promise<void> => {
    while (sockets.length < count) {
      const localAddress = `127.0.0.${2 + (sockets.length % ADDRESSES)}`;
      const socket = connect({ port, host: '127.0.0.1', localAddress });
      sockets.push(socket);
      await firstAnswer(socket);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, open));
  return sockets;
}

/** Resolves with its last byte; the backend says 1 KiB in every answer. */
function firstAnswer(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let read = '';
    socket.write('GET / HTTP/1.1\r\nHost: app\r\n\r\n', 'latin1');
    socket.on('data', (chunk: Buffer) => {
      read += chunk.toString('latin1');
      const head = read.indexOf('\r\n\r\n');
      if (head === -1 || read.length < head + 4 + 1024) return;
      if (!read.startsWith('HTTP/1.1 200')) reject(new Error(`an answer of the gateway: ${read.slice(0, 300)}`));
      resolve();
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the gateway closed a connection before its answer')));
  });
}

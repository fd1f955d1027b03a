// A body of 1 GiB down and up: how fast, at what cost, and whether memory stays what it is with a body an eighth as long.
import { once } from 'node:events';
import { type ClientRequest, request } from 'node:http';
import { rounded, table as tableOf } from './figures.ts';
import { cpuSeconds, forgetPeak, median, peakMiB } from './measure.ts';
import { nginxProxy, nginxVersion, startNginx } from './nginx.ts';
import { BACKEND_CORE, onCore, PORTS, PROXY_CORE, serve } from './processes.ts';
import type { Part } from './scale.ts';
import { startSelvedge, VERSION } from './selvedge.ts';

const MIB = 1024 * 1024;
const BACKEND = PORTS + 30;
/** Bodies of each kind. */
const ROUNDS = 3;

export interface Bodies {
  readonly name: string;
  readonly version: string;
  readonly way: 'down' | 'up';
  readonly mib: number;
  readonly mbPerSecond: number;
  readonly cpuMsPerGib: number;
  /** The highest resident memory with a body an eighth as long, and with the whole. */
  readonly peakOfEighthMiB: number;
  readonly peakMiB: number;
}

interface Proxy {
  readonly name: string;
  readonly version: string;
  readonly port: number;
  readonly pid: number;
}

export async function bodies(part: Part): Promise<readonly Bodies[]> {
  const { keep, bodyMiB: mib } = part;
  await serve([process.execPath, 'bench/bodies-backend.ts', String(BACKEND)], {
    port: BACKEND,
    core: BACKEND_CORE,
    keep,
  });
  const proxies = await startProxies(part);
  const rows: Bodies[] = [];
  await onCore(BACKEND_CORE, async () => {
    for (const way of ['down', 'up'] as const) {
      for (const { name, version, port, pid } of proxies) {
        forgetPeak(pid);
        for (let round = 0; round < ROUNDS; round++) await transfer(way, port, (mib / 8) * MIB);
        const peakOfEighthMiB = Math.round(peakMiB(pid));
        const speeds: number[] = [];
        const before = cpuSeconds(pid);
        for (let round = 0; round < ROUNDS; round++) {
          const startedAt = performance.now();
          await transfer(way, port, mib * MIB);
          speeds.push((mib * MIB) / 1_000 / (performance.now() - startedAt));
        }
        const cpu = (cpuSeconds(pid) - before) / ROUNDS;
        rows.push({
          name,
          version,
          way,
          mib,
          mbPerSecond: Math.round(median(speeds)),
          cpuMsPerGib: rounded((cpu * 1_000 * 1_024) / mib, 0),
          peakOfEighthMiB,
          peakMiB: Math.round(peakMiB(pid)),
        });
      }
    }
  });
  const peaks = [`peak RSS MiB with ${mib / 8} MiB`, `with ${mib} MiB`];
  process.stdout.write(
    tableOf(
      ['proxy', 'version', 'way', 'MiB', 'MB/s', 'CPU ms/GiB', ...peaks],
      rows.map((row) => Object.values(row)),
    ),
  );
  return rows;
}

async function startProxies({ dir, keep }: Part): Promise<Proxy[]> {
  const proxies: Proxy[] = [];
  const nginx = nginxVersion();
  if (nginx !== null) {
    const port = PORTS + 31;
    // Streamed as here: by default nginx keeps whole uploads, and what slow clients have yet to read, on disk.
    const server = nginxProxy(port, 'off', BACKEND).replace(
      'location / {',
      'client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 16 32k; location / {',
    );
    const child = await startNginx({ dir, name: 'nginx', server, port, core: PROXY_CORE, keep });
    proxies.push({ name: 'nginx', version: nginx, port, pid: child.pid as number });
  }
  const port = PORTS + 32;
  const config = {
    version: 1,
    admin: { port: 0 },
    telemetry: { accessLog: false },
    gateways: { bench: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: { app: { endpoints: [`127.0.0.1:${BACKEND}`] } },
    routes: [{ name: 'app', to: 'app' }],
  };
  const child = await startSelvedge({ dir, name: 'selvedge', config, port, keep });
  proxies.push({ name: 'selvedge', version: VERSION, port, pid: child.pid as number });
  return proxies;
}

/** Rejects when the other end has seen another number of bytes. */
async function transfer(way: Bodies['way'], port: number, size: number): Promise<void> {
  const common = { port, host: '127.0.0.1', agent: false };
  const sent =
    way === 'down'
      ? request({ ...common, path: `/${size}` })
      : request({ ...common, path: '/', method: 'PUT', headers: { 'content-length': String(size) } });
  const answer = once(sent, 'response');
  if (way === 'up') await upload(sent, size);
  sent.end();
  const [response] = await answer;
  let read = 0;
  let last: Buffer = Buffer.alloc(0);
  response.on('data', (chunk: Buffer) => {
    read += chunk.length;
    last = chunk;
  });
  await once(response, 'end');
  const arrived = way === 'down' ? read : Number(last.toString());
  if (response.statusCode !== 200 || arrived !== size)
    throw new Error(`${arrived} of ${size} bytes arrived, status ${response.statusCode}`);
}

async function upload(sent: ClientRequest, size: number): Promise<void> {
  const block = Buffer.alloc(64 * 1024, 'x');
  for (let left = size; left > 0; left -= block.length) {
    if (!sent.write(left < block.length ? block.subarray(0, left) : block)) await once(sent, 'drain');
  }
}

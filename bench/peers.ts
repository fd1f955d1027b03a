// The proxies that `npm run bench -- plain` measures side by side, each configured as someone who wishes it well would: one worker,
// upstream keep-alive, the same headers added, and no log except where the name says so.
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BACKEND_PORT, nginxLog, nginxProxy, nginxVersion, startNginx } from './nginx.ts';
import { has, listening, PROXY_CORE, packageVersion, start, versionOf } from './processes.ts';
import { startSelvedge, VERSION } from './selvedge.ts';

export interface Peer {
  readonly name: string;
  readonly version: string;
  readonly url: string;
  readonly child: ChildProcess;
}

const HAPROXY = (port: number): string => `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend edge
  bind 127.0.0.1:${port}
  option forwardfor
  unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto http
  http-response set-header x-request-id %[unique-id]
  default_backend app
backend app
  server app 127.0.0.1:${BACKEND_PORT}
`;

/** Extra keys of the only service and the only route. */
interface Keys {
  readonly service?: object;
  readonly route?: object;
}

const SELVEDGE = (port: number, log: boolean, { service, route }: Keys): object => ({
  version: 1,
  admin: false,
  telemetry: { accessLog: log && { format: 'json' } },
  gateways: { bench: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
  services: { app: { endpoints: [`127.0.0.1:${BACKEND_PORT}`], ...service } },
  routes: [{ name: 'app', to: [{ service: 'app' }], ...route }],
});

/** What a service does for its requests where everything is switched on, and where everything is switched off. */
const ARMED: Keys = {
  service: {
    outlierDetection: { successRate: true },
    retryBudget: { share: '20%' },
    concurrency: { adaptive: true, min: 64 },
    healthCheck: { http: { path: '/' }, interval: '1s' },
  },
  route: {
    timeout: { request: '15s', perTry: '5s' },
    hedge: { after: 'p95' },
    retry: {
      attempts: 2,
      on: ['connect-failure', 'refused-stream', 'reset', 'per-try-timeout', 'gateway-error', '5xx'],
    },
  },
};
const UNARMED: Keys = { service: { outlierDetection: false }, route: { retry: false } };

async function addSelvedge(dir: string, peers: Peer[], [name, port, logged, keys]: Variant): Promise<void> {
  const log = logged ? join(dir, 'selvedge.log') : '/dev/null';
  const config = SELVEDGE(port, logged, keys);
  const keep = (child: ChildProcess): unknown =>
    peers.push({ name, version: VERSION, url: `http://127.0.0.1:${port}/`, child });
  await startSelvedge({ dir, name: `selvedge-${port}`, config, port, log, keep });
}

type Variant = readonly [name: string, port: number, logged: boolean, keys: Keys];

/** Selvedge alone, with all of its resilience switched off and with all of it switched on; each in `peers` from its start. */
export async function startArmed(dir: string, peers: Peer[]): Promise<void> {
  await addSelvedge(dir, peers, ['selvedge unarmed', 18107, false, UNARMED]);
  await addSelvedge(dir, peers, ['selvedge armed', 18108, false, ARMED]);
}

/** Starts every peer that is installed, each in `peers` from its start; says on stderr which ones are not. */
export async function startPeers(dir: string, peers: Peer[]): Promise<void> {
  const add = async (name: string, port: number, version: string, child: ChildProcess): Promise<void> => {
    peers.push({ name, version, url: `http://127.0.0.1:${port}/`, child });
    await listening(port);
  };
  const nginx = nginxVersion();
  if (nginx !== null) {
    for (const [name, port, log] of [
      ['nginx', 18101, 'off'],
      ['nginx + JSON log', 18102, nginxLog(`${dir}/nginx.log`)],
    ] as const) {
      const server = nginxProxy(port, log);
      await add(name, port, nginx, startNginx({ dir, name: `nginx-${port}`, core: PROXY_CORE, server }));
    }
  }
  if (has('haproxy')) {
    const config = join(dir, 'haproxy.cfg');
    writeFileSync(config, HAPROXY(18103));
    const version = versionOf('haproxy', '-v', /version ([\d.]+)/);
    await add('haproxy', 18103, version, start(['haproxy', '-db', '-f', config], { core: PROXY_CORE }));
  } else process.stderr.write('haproxy is not installed: skipped\n');
  await add(
    'stock @fastify/http-proxy',
    18104,
    packageVersion('@fastify/http-proxy'),
    start([process.execPath, 'bench/stock.ts', '18104', String(BACKEND_PORT)], { core: PROXY_CORE }),
  );
  await addSelvedge(dir, peers, ['selvedge', 18105, false, {}]);
  await addSelvedge(dir, peers, ['selvedge + JSON log', 18106, true, {}]);
}

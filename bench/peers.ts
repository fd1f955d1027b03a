// The proxies that `npm run bench -- plain` measures side by side, each configured as someone who wishes it well would: one worker,
// upstream keep-alive, the same headers added, and no log except where the name says so.
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BACKEND_PORT, nginxLog, nginxProxy, nginxVersion, startNginx } from './nginx.ts';
import { has, PORTS, PROXY_CORE, packageVersion, serve, versionOf } from './processes.ts';
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
  await addSelvedge(dir, peers, ['selvedge unarmed', PORTS + 7, false, UNARMED]);
  await addSelvedge(dir, peers, ['selvedge armed', PORTS + 8, false, ARMED]);
}

/** Starts every peer that is installed, each in `peers` from its start; says on stderr which ones are not. */
export async function startPeers(dir: string, peers: Peer[]): Promise<void> {
  const add = (name: string, port: number, version: string) => (child: ChildProcess) =>
    peers.push({ name, version, url: `http://127.0.0.1:${port}/`, child });
  const core = PROXY_CORE;
  const nginx = nginxVersion();
  if (nginx !== null) {
    for (const [name, port, log] of [
      ['nginx', PORTS + 1, 'off'],
      ['nginx + JSON log', PORTS + 2, nginxLog(`${dir}/nginx.log`)],
    ] as const) {
      const server = nginxProxy(port, log);
      await startNginx({ dir, name: `nginx-${port}`, server, port, core, keep: add(name, port, nginx) });
    }
  }
  if (has('haproxy')) {
    const config = join(dir, 'haproxy.cfg');
    writeFileSync(config, HAPROXY(PORTS + 3));
    const version = versionOf('haproxy', '-v', /version ([\d.]+)/);
    await serve(['haproxy', '-db', '-f', config], { port: PORTS + 3, core, keep: add('haproxy', PORTS + 3, version) });
  } else process.stderr.write('haproxy is not installed: skipped\n');
  await serve([process.execPath, 'bench/stock.ts', String(PORTS + 4), String(BACKEND_PORT)], {
    port: PORTS + 4,
    core,
    keep: add('stock @fastify/http-proxy', PORTS + 4, packageVersion('@fastify/http-proxy')),
  });
  await addSelvedge(dir, peers, ['selvedge', PORTS + 5, false, {}]);
  await addSelvedge(dir, peers, ['selvedge + JSON log', PORTS + 6, true, {}]);
}

// The proxies that are measured side by side, each configured as someone who wishes it well would: upstream keep-alive, one worker.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

export interface Peer {
  readonly name: string;
  readonly version: string;
  readonly url: string;
  readonly child: ChildProcess;
}

export const ROOT = new URL('..', import.meta.url).pathname;
export const PROXY_CORE = '0';
export const BACKEND_CORE = '1';

export const BACKEND_PORT = 18100;
/** 1 KiB, as performance claims are stated for. */
const BODY = 'x'.repeat(1024);

export function has(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export function versionOf(program: string, flag: string, pattern: RegExp): string {
  const text = execFileSync('sh', ['-c', `${program} ${flag} 2>&1`], { encoding: 'utf8' });
  return pattern.exec(text)?.[1] ?? 'unknown';
}

function start(core: string, command: readonly string[], cwd = ROOT): ChildProcess {
  return spawn('taskset', ['-c', core, ...command], { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** What every peer forwards to: nginx where it is installed, a Node server otherwise. */
export async function startBackend(dir: string): Promise<ChildProcess> {
  const child = has('nginx')
    ? startNginx(dir, 'backend', BACKEND_CORE, nginxBackend())
    : start(BACKEND_CORE, [process.execPath, 'bench/backend.ts', String(BACKEND_PORT)]);
  await listening(BACKEND_PORT);
  return child;
}

export function startNginx(dir: string, name: string, core: string, server: string): ChildProcess {
  const prefix = join(dir, name);
  mkdirSync(prefix, { recursive: true });
  const config = join(prefix, 'nginx.conf');
  writeFileSync(
    config,
    `daemon off; master_process off; worker_processes 1; pid ${prefix}/nginx.pid; error_log ${prefix}/error.log;
events { worker_connections 4096; }
http {
  client_body_temp_path ${prefix}/b; proxy_temp_path ${prefix}/p; fastcgi_temp_path ${prefix}/f; uwsgi_temp_path ${prefix}/u; scgi_temp_path ${prefix}/s;
  log_format json escape=json '{"time":"$time_iso8601","id":"$request_id","client":"$remote_addr","method":"$request_method","path":"$uri","status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"agent":"$http_user_agent"}';
  keepalive_requests 100000000;
  ${server}
}\n`,
  );
  return start(core, ['nginx', '-p', prefix, '-c', config]);
}

function nginxBackend(): string {
  return `access_log off; server { listen 127.0.0.1:${BACKEND_PORT} reuseport; location / { default_type text/plain; return 200 "${BODY}"; } }`;
}

export function nginxProxy(port: number, log: string): string {
  return `access_log ${log};
  upstream backend { server 127.0.0.1:${BACKEND_PORT}; keepalive 64; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id; add_header X-Request-Id $request_id;
    }
  }`;
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
  default_backend app
backend app
  server app 127.0.0.1:${BACKEND_PORT}
`;

/** Extra keys of the only service and the only route, as flow mappings without their braces. */
interface Keys {
  readonly service?: string;
  readonly route?: string;
}

const SELVEDGE = (port: number, log: string | null, { service = '', route = '' }: Keys): string => `version: 1
admin: false
telemetry: { accessLog: ${log === null ? 'false' : '{ format: json }'} }
gateways:
  bench:
    listeners: [ { name: http, host: 127.0.0.1, port: ${port} } ]
services:
  app: { endpoints: [ 127.0.0.1:${BACKEND_PORT} ], ${service} }
routes:
  - { name: app, to: [ { service: app } ], ${route} }
`;

/** What a service does for its requests where everything is switched on, and where everything is switched off. */
const ARMED: Keys = {
  service: `outlierDetection: { successRate: true }, retryBudget: { share: 20% }, concurrency: { adaptive: true, min: 64 },
    healthCheck: { http: { path: / }, interval: 1s }`,
  route: `timeout: { request: 15s, perTry: 5s }, hedge: { after: p95 },
    retry: { attempts: 2, on: [ connect-failure, refused-stream, reset, per-try-timeout, gateway-error, 5xx ] }`,
};
const UNARMED: Keys = { service: 'outlierDetection: false', route: 'retry: false' };

function startSelvedge(dir: string, port: number, log: string | null, keys: Keys): ChildProcess {
  const config = join(dir, `selvedge-${port}.yaml`);
  writeFileSync(config, SELVEDGE(port, log, keys));
  const command = `exec taskset -c ${PROXY_CORE} ${process.execPath} src/main.ts run -c ${config} > ${log ?? '/dev/null'}`;
  return spawn('sh', ['-c', command], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Selvedge alone, with all of its resilience switched off and with all of it switched on; each in `peers` from its start. */
export async function startArmed(dir: string, peers: Peer[]): Promise<void> {
  for (const [name, port, keys] of [
    ['selvedge unarmed', 18107, UNARMED],
    ['selvedge armed', 18108, ARMED],
  ] as const) {
    const child = startSelvedge(dir, port, null, keys);
    peers.push({ name, version: packageVersion('..'), url: `http://127.0.0.1:${port}/`, child });
    await listening(port);
  }
}

/** Starts every peer that is installed, each in `peers` from its start; says on stderr which ones are not. */
export async function startPeers(dir: string, peers: Peer[]): Promise<void> {
  const add = async (name: string, port: number, version: string, child: ChildProcess): Promise<void> => {
    peers.push({ name, version, url: `http://127.0.0.1:${port}/`, child });
    await listening(port);
  };
  if (has('nginx')) {
    const version = versionOf('nginx', '-v', /nginx\/([\d.]+)/);
    await add('nginx', 18101, version, startNginx(dir, 'nginx', PROXY_CORE, nginxProxy(18101, 'off')));
    const log = `${dir}/nginx.log json buffer=64k flush=1s`;
    await add('nginx + JSON log', 18102, version, startNginx(dir, 'nginx-log', PROXY_CORE, nginxProxy(18102, log)));
  } else process.stderr.write('nginx is not installed: skipped\n');
  if (has('haproxy')) {
    const config = join(dir, 'haproxy.cfg');
    writeFileSync(config, HAPROXY(18103));
    await add(
      'haproxy',
      18103,
      versionOf('haproxy', '-v', /version ([\d.]+)/),
      start(PROXY_CORE, ['haproxy', '-db', '-f', config]),
    );
  } else process.stderr.write('haproxy is not installed: skipped\n');
  await add(
    'stock @fastify/http-proxy',
    18104,
    packageVersion('@fastify/http-proxy'),
    start(PROXY_CORE, [process.execPath, 'bench/stock.ts', '18104', String(BACKEND_PORT)]),
  );
  for (const [name, port, log] of [
    ['selvedge', 18105, null],
    ['selvedge + JSON log', 18106, `${dir}/selvedge.log`],
  ] as const) {
    await add(name, port, packageVersion('..'), startSelvedge(dir, port, log, {}));
  }
}

export function packageVersion(name: string): string {
  const path = name === '..' ? '../package.json' : `../node_modules/${name}/package.json`;
  return JSON.parse(execFileSync('cat', [new URL(path, import.meta.url).pathname], { encoding: 'utf8' })).version;
}

/** Asks it to end, and ends it when it has not after eight seconds. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGINT');
  const forced = setTimeout(() => child.kill('SIGKILL'), 8_000);
  await exit;
  clearTimeout(forced);
}

/** Resolves when something accepts connections there; rejects after ten seconds. */
export async function listening(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true));
      socket.on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}

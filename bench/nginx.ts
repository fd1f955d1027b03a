// nginx as the backend of every benchmark, and as the peer that ratios are stated over: one worker, upstream keep-alive, buffered log.
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BACKEND_CORE, has, PORTS, type Serve, serve, versionOf } from './processes.ts';

export const BACKEND_PORT = PORTS;
/** 1 KiB, as performance claims are stated for. */
const BODY = 'x'.repeat(1024);

/** Null, and said on stderr, where it is not installed. */
export function nginxVersion(): string | null {
  if (has('nginx')) return versionOf('nginx', '-v', /nginx\/([\d.]+)/);
  process.stderr.write('nginx is not installed: skipped\n');
  return null;
}

/** What every peer forwards to: nginx where it is installed, a Node server otherwise. */
export async function startBackend(
  dir: string,
  keep: Serve['keep'],
  core: string | null = BACKEND_CORE,
): Promise<ChildProcess> {
  const port = BACKEND_PORT;
  if (has('nginx')) return startNginx({ dir, name: 'backend', server: BACKEND, port, core, keep });
  return serve([process.execPath, 'bench/backend.ts', String(port)], { port, core, keep });
}

const BACKEND = `access_log off; server { listen 127.0.0.1:${BACKEND_PORT} reuseport; location / { default_type text/plain; return 200 "${BODY}"; } }`;

interface Nginx extends Omit<Serve, 'log'> {
  readonly dir: string;
  readonly name: string;
  /** Within `http`. */
  readonly server: string;
  /** Its tables for them are made at the start, and count as its memory. */
  readonly connections?: number;
}

export async function startNginx({ dir, name, server, connections = 4096, ...how }: Nginx): Promise<ChildProcess> {
  const prefix = join(dir, name);
  mkdirSync(prefix, { recursive: true });
  const config = join(prefix, 'nginx.conf');
  writeFileSync(
    config,
    `daemon off; master_process off; worker_processes 1; pid ${prefix}/nginx.pid; error_log ${prefix}/error.log;
events { worker_connections ${connections}; }
http {
  client_body_temp_path ${prefix}/b; proxy_temp_path ${prefix}/p; fastcgi_temp_path ${prefix}/f; uwsgi_temp_path ${prefix}/u; scgi_temp_path ${prefix}/s;
  log_format json escape=json '{"time":"$time_iso8601","id":"$request_id","client":"$remote_addr","method":"$request_method","path":"$uri","status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"agent":"$http_user_agent","upstream":"$upstream_addr"}';
  keepalive_requests 100000000;
  ${server}
}\n`,
  );
  return serve(['nginx', '-p', prefix, '-c', config], how);
}

/** Of `access_log`: buffered, as Selvedge's and Envoy's are. */
export function nginxLog(file: string): string {
  return `${file} json buffer=64k flush=1s`;
}

/** `log`: what `access_log` says. */
export function nginxProxy(port: number, log: string, backend = BACKEND_PORT): string {
  return `access_log ${log};
  upstream backend { server 127.0.0.1:${backend}; keepalive 64; keepalive_requests 100000000; keepalive_timeout 600s; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id; add_header X-Request-Id $request_id;
    }
  }`;
}

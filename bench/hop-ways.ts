// The ways that `npm run bench -- hop` measures: one plain hop, and two with mTLS between them; by Selvedge and by nginx.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueForHosts, issueSvid, keyPem, makeIntermediate, makeKey, makeRoot } from '../src/identity/authority.ts';
import { pem } from '../src/identity/pem.ts';
import {
  BACKEND_PORT,
  has,
  listening,
  nginxProxy,
  PROXY_CORE,
  packageVersion,
  ROOT,
  startNginx,
  versionOf,
} from './peers.ts';

/** One way from the load to the application. */
export interface Way {
  readonly name: string;
  readonly version: string;
  readonly port: number;
  /** In the order of the way. */
  readonly hops: readonly Hop[];
}

export interface Hop {
  readonly name: string;
  readonly child: ChildProcess;
}

const PORTS = {
  plain: 18160,
  caller: 18161,
  callee: 18162,
  unused: 18163,
  nginx: 18165,
  nginxOut: 18166,
  nginxIn: 18167,
};
/** What the load asks for. */
export const HOST = 'app';

/** Remembers what is to be ended. */
type Keep = (child: ChildProcess) => ChildProcess;

export async function selvedgeWays(dir: string, keep: Keep): Promise<Way[]> {
  const run = async (name: string, config: object, port: number, ...roles: string[]): Promise<Hop> => {
    const file = join(dir, `${name}.json`);
    writeFileSync(file, JSON.stringify(config));
    const words = [process.execPath, 'bin/selvedge.js', 'run', '-c', file, ...roles];
    const command = `exec taskset -c ${PROXY_CORE} "$@" > ${dir}/${name}.log`;
    const child = keep(
      spawn('sh', ['-c', command, 'sh', ...words], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] }),
    );
    await listening(port);
    return { name, child };
  };
  // As it is published: from sources the compiler would count as memory of the hop.
  execFileSync(process.execPath, ['scripts/build.ts', '--if-needed'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const version = packageVersion('..');
  const common = { version: 1, admin: { port: 0 }, telemetry: { accessLog: { format: 'json' } } };
  const local = (port: number): string => `127.0.0.1:${port}`;
  const app = (inbound: number): object => ({
    endpoints: [{ address: local(BACKEND_PORT), hop: local(inbound) }],
    internal: {
      inbound: { host: '127.0.0.1', port: inbound },
      outbound: { host: '127.0.0.1', port: 0 },
      app: local(BACKEND_PORT),
    },
  });
  const plain = { ...common, mesh: { mtls: 'off' }, services: { [HOST]: app(PORTS.plain) } };
  const caller = {
    endpoints: [{ address: local(BACKEND_PORT), hop: local(PORTS.unused) }],
    internal: {
      inbound: { host: '127.0.0.1', port: PORTS.unused },
      outbound: { host: '127.0.0.1', port: PORTS.caller },
      app: local(BACKEND_PORT),
    },
  };
  const strict = {
    ...common,
    mesh: { trustDomain: 'bench.internal', mtls: 'strict', identity: { builtin: { dir: join(dir, 'identity') } } },
    services: { [HOST]: app(PORTS.callee), caller },
  };
  return [
    {
      name: 'selvedge, plain',
      version,
      port: PORTS.plain,
      hops: [await run('in', plain, PORTS.plain, '--internal', HOST)],
    },
    {
      name: 'selvedge, mTLS',
      version,
      port: PORTS.caller,
      hops: [
        await run('mtls-out', strict, PORTS.caller, '--internal', 'caller'),
        await run('mtls-in', strict, PORTS.callee, '--internal', HOST),
      ],
    },
  ];
}

export async function nginxWays(dir: string, keep: Keep): Promise<Way[]> {
  if (!has('nginx')) {
    process.stderr.write('nginx is not installed: skipped\n');
    return [];
  }
  const run = async (name: string, port: number, server: string): Promise<Hop> => {
    const child = keep(startNginx(dir, name, PROXY_CORE, server));
    await listening(port);
    return { name, child };
  };
  const version = versionOf('nginx', '-v', /nginx\/([\d.]+)/);
  const log = (name: string): string => `${dir}/${name}.log json buffer=64k flush=1s`;
  const names = await certificates(dir);
  const tlsOut = nginxProxy(PORTS.nginxOut, log('nginx-out'))
    .replace(`server 127.0.0.1:${BACKEND_PORT};`, `server 127.0.0.1:${PORTS.nginxIn};`)
    .replace(
      'proxy_pass http://backend;',
      `proxy_pass https://backend; proxy_ssl_certificate ${names.caller}.crt; proxy_ssl_certificate_key ${names.caller}.key;
      proxy_ssl_trusted_certificate ${names.roots}; proxy_ssl_verify on; proxy_ssl_verify_depth 3; proxy_ssl_name ${SERVER_NAME};
      proxy_ssl_protocols TLSv1.3;`,
    );
  const tlsIn = nginxProxy(PORTS.nginxIn, log('nginx-in')).replace(
    `listen 127.0.0.1:${PORTS.nginxIn};`,
    `listen 127.0.0.1:${PORTS.nginxIn} ssl; ssl_certificate ${names.callee}.crt; ssl_certificate_key ${names.callee}.key;
    ssl_client_certificate ${names.roots}; ssl_verify_client on; ssl_verify_depth 3; ssl_protocols TLSv1.3;`,
  );
  return [
    {
      name: 'nginx, plain',
      version,
      port: PORTS.nginx,
      hops: [await run('nginx-plain', PORTS.nginx, nginxProxy(PORTS.nginx, log('nginx-plain')))],
    },
    {
      name: 'nginx, mTLS',
      version,
      port: PORTS.nginxOut,
      hops: [await run('nginx-out', PORTS.nginxOut, tlsOut), await run('nginx-in', PORTS.nginxIn, tlsIn)],
    },
  ];
}

/** nginx checks names of hosts only. */
const SERVER_NAME = 'app.bench.internal';

/** Keys and chains of the same kind as those of hops. */
async function certificates(dir: string): Promise<{ roots: string; caller: string; callee: string }> {
  const dates = { now: Date.now() };
  const root = await makeRoot('bench.internal', dates);
  const issuer = await makeIntermediate(root, 'bench.internal', dates);
  const caller = await issueSvid(issuer, 'spiffe://bench.internal/service/caller', dates);
  const key = await makeKey();
  const callee = { key: keyPem(key), ...issueForHosts(issuer, [SERVER_NAME], createPublicKey(key), dates) };
  const names = { roots: join(dir, 'roots.crt'), caller: join(dir, 'caller'), callee: join(dir, 'callee') };
  writeFileSync(names.roots, pem('CERTIFICATE', root.certificate.raw));
  for (const [path, { cert, key }] of [
    [names.caller, caller],
    [names.callee, callee],
  ] as const) {
    writeFileSync(`${path}.crt`, cert);
    writeFileSync(`${path}.key`, key, { mode: 0o600 });
  }
  return names;
}

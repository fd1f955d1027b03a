// The ways that `npm run bench -- hop` measures: one plain hop, and two with mTLS between them; by Selvedge, by nginx and by Envoy.
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { findEnvoy, startEnvoy } from './envoy.ts';
import { CALLER_ID, type Certificates, SERVER_NAME } from './hop-certificates.ts';
import { BACKEND_PORT, nginxLog, nginxProxy, nginxVersion, startNginx } from './nginx.ts';
import { PORTS, PROXY_CORE, type Serve } from './processes.ts';
import { startSelvedge, VERSION } from './selvedge.ts';

/** One way from the load to the application. */
export interface Way {
  readonly by: 'selvedge' | 'nginx' | 'envoy';
  readonly kind: 'plain' | 'mTLS';
  readonly version: string;
  readonly port: number;
  /** In the order of the way. */
  readonly hops: readonly Hop[];
}

export interface Hop {
  readonly name: 'plain' | 'out' | 'in';
  readonly child: ChildProcess;
}

const SELVEDGE = { plain: PORTS + 60, out: PORTS + 61, in: PORTS + 62, unused: PORTS + 63 };
const NGINX = { plain: PORTS + 65, out: PORTS + 66, in: PORTS + 67 };
const ENVOY = { plain: PORTS + 70, out: PORTS + 71, in: PORTS + 72 };
/** What the load asks for. */
export const HOST = 'app';

type Run = (name: Hop['name'], port: number) => Promise<Hop>;

async function ways(
  by: Way['by'],
  version: string,
  ports: { plain: number; out: number; in: number },
  run: Run,
): Promise<Way[]> {
  const plain = await run('plain', ports.plain);
  // The one behind first: nobody asks for what is not there yet.
  const inbound = await run('in', ports.in);
  const outbound = await run('out', ports.out);
  await provesItsJob(by, ports.in);
  return [
    { by, kind: 'plain', version, port: ports.plain, hops: [plain] },
    { by, kind: 'mTLS', version, port: ports.out, hops: [outbound, inbound] },
  ];
}

export async function selvedgeWays(dir: string, keep: Serve['keep']): Promise<Way[]> {
  const local = (port: number): string => `127.0.0.1:${port}`;
  const service = (inbound: number, outbound: number): object => ({
    endpoints: [{ address: local(BACKEND_PORT), hop: local(inbound) }],
    internal: {
      inbound: { host: '127.0.0.1', port: inbound },
      outbound: { host: '127.0.0.1', port: outbound },
      app: local(BACKEND_PORT),
    },
  });
  const common = { version: 1, admin: { port: 0 }, telemetry: { accessLog: { format: 'json' } } };
  const plain = { ...common, mesh: { mtls: 'off' }, services: { [HOST]: service(SELVEDGE.plain, 0) } };
  const strict = {
    ...common,
    mesh: { trustDomain: 'bench.internal', mtls: 'strict', identity: { builtin: { dir: join(dir, 'identity') } } },
    services: { [HOST]: service(SELVEDGE.in, 0), caller: service(SELVEDGE.unused, SELVEDGE.out) },
  };
  return ways('selvedge', VERSION, SELVEDGE, async (name, port) => {
    const file = `selvedge-${name}`;
    const words = ['--internal', name === 'out' ? 'caller' : HOST];
    const config = name === 'plain' ? plain : strict;
    const log = join(dir, `${file}.log`);
    return { name, child: await startSelvedge({ dir, name: file, config, port, words, log, keep }) };
  });
}

export async function nginxWays(dir: string, certificates: Certificates, keep: Serve['keep']): Promise<Way[]> {
  const version = nginxVersion();
  if (version === null) return [];
  const { roots, caller, callee } = certificates;
  const log = (name: string): string => nginxLog(join(dir, `nginx-${name}.log`));
  const servers = {
    plain: nginxProxy(NGINX.plain, log('plain')),
    out: nginxProxy(NGINX.out, log('out'), NGINX.in).replace(
      'proxy_pass http://backend;',
      `proxy_pass https://backend; proxy_ssl_certificate ${caller.cert}; proxy_ssl_certificate_key ${caller.key};
      proxy_ssl_trusted_certificate ${roots}; proxy_ssl_verify on; proxy_ssl_verify_depth 3; proxy_ssl_name ${SERVER_NAME};
      proxy_ssl_protocols TLSv1.3;`,
    ),
    in: nginxProxy(NGINX.in, log('in')).replace(
      `listen 127.0.0.1:${NGINX.in};`,
      `listen 127.0.0.1:${NGINX.in} ssl; ssl_certificate ${callee.cert}; ssl_certificate_key ${callee.key};
      ssl_client_certificate ${roots}; ssl_verify_client on; ssl_verify_depth 3; ssl_protocols TLSv1.3;`,
    ),
  };
  return ways('nginx', version, NGINX, async (name, port) => {
    const nginx = { dir, name: `nginx-${name}`, server: servers[name], port, core: PROXY_CORE, keep };
    return { name, child: await startNginx(nginx) };
  });
}

export async function envoyWays(dir: string, certificates: Certificates, keep: Serve['keep']): Promise<Way[]> {
  const envoy = findEnvoy();
  if (envoy === null) return [];
  const { roots, caller, callee } = certificates;
  const context = ({ cert, key }: Certificates['caller'], san_type: string, exact: string): object => ({
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [{ certificate_chain: { filename: cert }, private_key: { filename: key } }],
    validation_context: {
      trusted_ca: { filename: roots },
      match_typed_subject_alt_names: [{ san_type, matcher: { exact } }],
    },
  });
  const tls = {
    plain: {},
    out: { upstreamTls: { sni: SERVER_NAME, common_tls_context: context(caller, 'DNS', SERVER_NAME) } },
    in: {
      downstreamTls: {
        require_client_certificate: true,
        common_tls_context: context(callee, 'URI', CALLER_ID),
      },
    },
  };
  return ways('envoy', envoy.version, ENVOY, async (name, port) => {
    const upstream = name === 'out' ? ENVOY.in : BACKEND_PORT;
    const job = { port, upstream, log: join(dir, `envoy-${name}.log`), ...tls[name] };
    return { name, child: await startEnvoy(envoy, join(dir, `envoy-${name}.json`), job, keep) };
  });
}

/** What serves a caller without a certificate does another job. */
async function provesItsJob(by: string, port: number): Promise<void> {
  const answer = await new Promise<string>((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', servername: SERVER_NAME, rejectUnauthorized: false });
    let read = '';
    socket.on('secureConnect', () => socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`));
    socket.on('data', (chunk: Buffer) => {
      read += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(read));
  });
  if (/^HTTP\/1.1 2/.test(answer)) throw new Error(`${by} answers a caller that has no certificate`);
}

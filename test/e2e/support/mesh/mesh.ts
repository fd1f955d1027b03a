// A mesh of processes, each started by `selvedge` as a user would: a CA service, an edge, and hops with their applications behind them.
import { writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { SelvedgeProcess } from '../../../cli/support/process.ts';
import { freePort } from '../ports.ts';
import type { Owner } from '../process.ts';
import { eventually } from '../sockets.ts';
import { CaProcess } from './ca.ts';
import { openTlsTap, type TlsTap } from './tls-tap.ts';

const APP = new URL('./app.ts', import.meta.url).pathname;

export interface MeshShape {
  /** Services with those that they call; the edge calls the first. */
  readonly services: Readonly<Record<string, readonly string[]>>;
  /** Calls to this service go through a tap. */
  readonly tapped: string;
  readonly ca: CaProcess;
}

export interface Mesh {
  /** Where the edge listens. */
  readonly port: number;
  readonly tap: TlsTap;
  /** By name as the CA knows them: `gateway/public`, `service/orders`. */
  readonly processes: ReadonlyMap<string, SelvedgeProcess>;
  /** Whether the certificate that this hop shows leads to this root and nothing else. */
  shows(service: string, root: string): Promise<boolean>;
  /** Metrics of one process, as text. */
  metrics(name: string): Promise<string>;
  /** What processes have said that is worse than information. */
  readonly complaints: readonly string[];
  stop(): Promise<void>;
}

interface Place {
  readonly app: number;
  readonly inbound: number;
  readonly outbound: number;
}

/** Starts everything but the CA, which is to serve by then; resolves when a request comes through. */
export async function startMesh(owner: Owner, dir: string, { services, tapped, ca }: MeshShape): Promise<Mesh> {
  const names = Object.keys(services);
  const places = new Map<string, Place>();
  for (const name of names)
    places.set(name, { app: await freePort(), inbound: await freePort(), outbound: await freePort() });
  const place = (name: string): Place => places.get(name) as Place;
  const port = await freePort();
  const tap = await openTlsTap(owner, place(tapped).inbound);
  const dialled = (name: string): number => (name === tapped ? tap.port : place(name).inbound);
  const config = {
    version: 1,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the config's own references
    admin: { port: '${ADMIN_PORT}' },
    telemetry: { accessLog: false },
    drain: { grace: '0s', timeout: '3s' },
    mesh: {
      trustDomain: CaProcess.trustDomain,
      mtls: 'strict',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the config's own references
      identity: { ca: { url: ca.url, token: '${JOIN_TOKEN:-}', trust: ca.trust, dir: join(dir, 'identity') } },
    },
    gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: Object.fromEntries(
      names.map((name) => [
        name,
        {
          endpoints: [{ address: `127.0.0.1:${place(name).app}`, hop: `127.0.0.1:${dialled(name)}` }],
          internal: {
            inbound: { host: '127.0.0.1', port: place(name).inbound },
            outbound: { host: '127.0.0.1', port: place(name).outbound },
            app: `127.0.0.1:${place(name).app}`,
          },
        },
      ]),
    ),
    routes: [{ name: 'all', to: names[0] }],
  };
  const file = join(dir, 'mesh.json');
  writeFileSync(file, JSON.stringify(config));

  const processes = new Map<string, SelvedgeProcess>();
  const admins = new Map<string, number>();
  const start = async (name: string, roles: readonly string[]): Promise<void> => {
    const admin = await freePort();
    const env = { ADMIN_PORT: String(admin), JOIN_TOKEN: await ca.token(name) };
    const started = new SelvedgeProcess(owner, ['run', '-c', file, ...roles], { env });
    processes.set(name, started);
    admins.set(name, admin);
    await started.says('config in force');
  };
  const app = (name: string): string[] => ['--', process.execPath, APP, String(place(name).app), ...services[name]];
  await Promise.all([
    start('gateway/public', ['--gateway', 'public']),
    ...names.map((name) => start(`service/${name}`, ['--internal', name, ...app(name)])),
  ]);
  let good = false;
  const tries = setInterval(() => {
    get({ host: '127.0.0.1', port, path: '/load', agent: false }, (response) => {
      response.resume();
      good ||= response.statusCode === 200;
    }).on('error', () => {});
  }, 100);
  await eventually(() => good, 'a request comes through the mesh', 15_000).finally(() => clearInterval(tries));

  return {
    port,
    tap,
    processes,
    shows: (service, root) => leadsTo(place(service).inbound, root),
    metrics: (name) => textOf(admins.get(name) as number, '/metrics'),
    get complaints() {
      return [...processes].flatMap(([name, { lines, stderr }]) => [
        ...lines
          .filter(({ level, code }) => level >= 40 && code !== 'SLV_CONFIG')
          .map((line) => `${name}: ${JSON.stringify(line)}`),
        ...(stderr === '' ? [] : [`${name}: ${stderr}`]),
      ]);
    },
    async stop() {
      for (const { child } of processes.values()) child.kill('SIGINT');
      await Promise.all([...processes.values()].map(({ ended }) => ended));
    },
  };
}

/** The handshake is enough: without a certificate of its own a client gets no further, and need not. */
function leadsTo(port: number, root: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ port, host: '127.0.0.1', ca: root, maxVersion: 'TLSv1.3', rejectUnauthorized: false });
    socket.on('secureConnect', () => {
      // The name is checked by nobody here: a hop has none but its id.
      const reason = String(socket.authorizationError ?? '');
      socket.destroy();
      resolve(reason === '' || reason === 'ERR_TLS_CERT_ALTNAME_INVALID');
    });
    socket.on('error', reject);
  });
}

function textOf(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    }).on('error', reject);
  });
}

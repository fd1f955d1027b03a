// `npm run bench -- hop`: what a hop costs at a steady rate, plain and with mTLS on both sides, beside nginx doing the same, and what it
// adds to the latency of a direct call in the same round.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { issueForHosts, issueSvid, keyPem, makeIntermediate, makeKey, makeRoot } from '../src/identity/authority.ts';
import { pem } from '../src/identity/pem.ts';
import { cpuSeconds, median, memoryMiB } from './measure.ts';
import {
  BACKEND_CORE,
  BACKEND_PORT,
  has,
  listening,
  nginxProxy,
  PROXY_CORE,
  packageVersion,
  ROOT,
  startBackend,
  startNginx,
  versionOf,
} from './peers.ts';
import { saveResults } from './results.ts';
import { steadyLoad } from './steady.ts';

export interface HopBench {
  readonly rate: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string | undefined;
}

/** One way from the load to the application. */
interface Way {
  readonly name: string;
  readonly version: string;
  readonly port: number;
  /** In the order of the way. */
  readonly hops: readonly Hop[];
}

interface Hop {
  readonly name: string;
  readonly child: ChildProcess;
}

interface Sample {
  /** Percent of a core, for each hop. */
  readonly cpu: readonly number[];
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Over the direct call of the round. */
  readonly addedP50Ms: number;
  readonly addedP99Ms: number;
}

/** As many callers keep open: a slow steady rate costs more for each request than saturation, where work comes in batches. */
const CONNECTIONS = 20;
const PORTS = {
  plain: 18160,
  caller: 18161,
  callee: 18162,
  unused: 18163,
  nginx: 18165,
  nginxOut: 18166,
  nginxIn: 18167,
};
const HOST = 'app';

export async function benchHop({ rate, rounds, seconds, only = '' }: HopBench): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-hop-'));
  const started: ChildProcess[] = [await startBackend(dir)];
  const keep = (child: ChildProcess): ChildProcess => {
    started.push(child);
    return child;
  };
  // The load shares a core with the application, hops have the other one.
  execFileSync('taskset', ['-acp', BACKEND_CORE, String(process.pid)], { stdio: 'ignore' });
  try {
    const all = [...(await selvedgeWays(dir, keep)), ...(await nginxWays(dir, keep))];
    const ways = all.filter(({ name }) => name.includes(only));
    const load = (port: number, seconds: number) =>
      steadyLoad({ port, host: HOST, rate, connections: CONNECTIONS, seconds });
    for (const { port } of ways) await load(port, 3);
    const samples = new Map<string, Sample[]>(ways.map(({ name }) => [name, []]));
    const directs: { p50Ms: number; p99Ms: number }[] = [];
    for (let round = 1; round <= rounds; round++) {
      const direct = await load(BACKEND_PORT, seconds);
      directs.push(direct);
      for (const { name, port, hops } of ways) {
        const before = hops.map(({ child }) => cpuSeconds(child.pid as number));
        const startedAt = performance.now();
        const { p50Ms, p99Ms } = await load(port, seconds);
        const elapsed = (performance.now() - startedAt) / 1_000;
        const cpu = hops.map(({ child }, at) => ((cpuSeconds(child.pid as number) - before[at]) / elapsed) * 100);
        const added = { addedP50Ms: p50Ms - direct.p50Ms, addedP99Ms: p99Ms - direct.p99Ms };
        samples.get(name)?.push({ cpu, p50Ms, p99Ms, ...added });
        const used = cpu.map((percent) => `${percent.toFixed(1)} %`).join(', ');
        process.stderr.write(
          `round ${round}/${rounds}  ${name.padEnd(22)} ${used.padEnd(16)} +${added.addedP50Ms.toFixed(2)} ms, p99 +${added.addedP99Ms.toFixed(2)} ms\n`,
        );
      }
    }
    report({ ways, samples, directs, rate, rounds, seconds });
  } finally {
    for (const child of started) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

type Keep = (child: ChildProcess) => ChildProcess;

async function selvedgeWays(dir: string, keep: Keep): Promise<Way[]> {
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

async function nginxWays(dir: string, keep: Keep): Promise<Way[]> {
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

interface Measured {
  readonly ways: readonly Way[];
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  readonly directs: readonly { readonly p50Ms: number; readonly p99Ms: number }[];
  readonly rate: number;
  readonly rounds: number;
  readonly seconds: number;
}

function report({ ways, samples, directs, rate, rounds, seconds }: Measured): void {
  const direct = {
    p50Ms: rounded(median(directs.map(({ p50Ms }) => p50Ms))),
    p99Ms: rounded(median(directs.map(({ p99Ms }) => p99Ms))),
  };
  const table = ways.flatMap(({ name, version, hops }) => {
    const taken = samples.get(name) as readonly Sample[];
    const of = (pick: (sample: Sample) => number): number => rounded(median(taken.map(pick)));
    return hops.map(({ name: hop, child }, at) => {
      const memory = memoryMiB(child.pid as number);
      return {
        name,
        hop,
        version,
        cpuPercent: of(({ cpu }) => cpu[at]),
        rssMiB: Math.round(memory.rss),
        ownMiB: Math.round(memory.own),
        addedP50Ms: of(({ addedP50Ms }) => addedP50Ms),
        addedP99Ms: of(({ addedP99Ms }) => addedP99Ms),
      };
    });
  });
  const load = loadavg().map(rounded);
  process.stdout.write(
    `direct: p50 ${direct.p50Ms} ms, p99 ${direct.p99Ms} ms; load of the machine ${load.join(', ')}\n\n` +
      `| ${rate} requests/s | hop | CPU, % of a core | RSS MiB (own) | added p50 ms (whole way) | added p99 ms |\n|---|---|---|---|---|---|\n`,
  );
  for (const row of table)
    process.stdout.write(
      `| ${row.name} ${row.version} | ${row.hop} | ${row.cpuPercent} | ${row.rssMiB} (${row.ownMiB}) | ${row.addedP50Ms} | ${row.addedP99Ms} |\n`,
    );
  const about = { at: new Date().toISOString(), node: process.version, cpu: cpus()[0]?.model, load };
  saveResults({ hop: { ...about, rate, rounds, seconds, connections: CONNECTIONS, direct, table } });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGINT');
  const forced = setTimeout(() => child.kill('SIGKILL'), 8_000);
  await exit;
  clearTimeout(forced);
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

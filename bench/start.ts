// `npm run bench -- start`: from the spawn of the command to its first answer, as somebody outside sees it.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { median } from './measure.ts';
import { PORTS } from './processes.ts';
import { saveResults } from './results.ts';

const ROOT = join(import.meta.dirname, '..');
const PORT = PORTS + 50;
const ROUTES = 50;
const POLL_MS = 2;

interface Case {
  readonly name: string;
  readonly command: readonly string[];
  /** Where compiled code is kept: the same place for every round, or an empty one for each. */
  readonly cache: 'kept' | 'empty';
  readonly samples: number[];
}

export async function benchStart(rounds: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-'));
  try {
    const config = join(dir, 'selvedge.yaml');
    writeFileSync(config, configOf(ROUTES));
    const cases = casesOf(dir, config);
    for (let round = 0; round <= rounds; round++) {
      for (const one of cases) {
        const ms = await start(one, dir);
        // The first round fills the caches, the disk's among them.
        if (round === 0) continue;
        one.samples.push(ms);
        process.stderr.write(`round ${round}/${rounds}  ${one.name.padEnd(44)} ${ms.toFixed(0)} ms\n`);
      }
    }
    report(cases, rounds);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function configOf(routes: number): string {
  const services = Array.from({ length: 10 }, (_, index) => `  service-${index}: { endpoints: ["127.0.0.1:9"] }`);
  const others = Array.from(
    { length: routes - 1 },
    (_, index) => `  - { name: route-${index}, match: [{ path: /api/${index} }], to: service-${index % 10} }`,
  );
  return `version: 1
admin: { port: 0 }
gateways:
  public:
    listeners: [{ name: http, host: 127.0.0.1, port: ${PORT} }]
services:
${services.join('\n')}
routes:
  - { name: hello, match: [{ path: /hello }], respond: { body: hello } }
${others.join('\n')}
`;
}

/** The package as published and this checkout, on the Node that the project pins and on the machine's own. */
function casesOf(dir: string, config: string): Case[] {
  const bins = { package: unpacked(dir), checkout: join(ROOT, 'bin/selvedge.js') };
  const nodes = [...new Set([process.execPath, systemNode() ?? process.execPath])];
  const cases = Object.entries(bins).flatMap(([name, bin]) =>
    nodes.map((node): Case => {
      const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
      return { name: `${name}, ${version}`, command: [node, bin, 'run', '-c', config], cache: 'kept', samples: [] };
    }),
  );
  return cases.flatMap((one): Case[] => [
    one,
    { ...one, name: `${one.name}, first start`, cache: 'empty', samples: [] },
  ]);
}

function unpacked(dir: string): string {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', dir], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const tarball = readdirSync(dir).find((name) => name.endsWith('.tgz')) as string;
  const modules = join(dir, 'node_modules');
  mkdirSync(join(modules, 'selvedge'), { recursive: true });
  execFileSync('tar', ['-xzf', join(dir, tarball), '-C', join(modules, 'selvedge'), '--strip-components=1']);
  for (const name of readdirSync(join(ROOT, 'node_modules')).filter((name) => /^node-(?:bin-)?\w+-\w+$/.test(name))) {
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name), 'dir');
  }
  return join(modules, 'selvedge/bin/selvedge.js');
}

/** What `node` is outside of npm scripts. */
function systemNode(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  return folders.map((folder) => join(folder, 'node')).find(existsSync);
}

/** Milliseconds from spawn to the first 200. */
async function start({ name, command, cache }: Case, dir: string): Promise<number> {
  const caches = join(dir, 'caches', cache);
  if (cache === 'empty') rmSync(caches, { recursive: true, force: true });
  const startedAt = performance.now();
  const child = spawn(command[0], command.slice(1), {
    cwd: dir,
    env: { ...process.env, XDG_CACHE_HOME: caches, NODE_COMPILE_CACHE: '' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    while ((await statusOf(`http://127.0.0.1:${PORT}/hello`)) !== 200) {
      if (child.exitCode !== null) throw new Error(`${name}: the process ended with ${child.exitCode}`);
      await wait(POLL_MS);
    }
    return performance.now() - startedAt;
  } finally {
    await stop(child);
  }
}

/** 0 while nobody listens. */
function statusOf(url: string): Promise<number> {
  return new Promise((resolve) => {
    get(url, { agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    }).on('error', () => resolve(0));
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGINT');
  await exit;
}

function report(cases: readonly Case[], rounds: number): void {
  const table = cases.map(({ name, samples }) => ({
    name,
    medianMs: Math.round(median(samples)),
    minMs: Math.round(Math.min(...samples)),
    maxMs: Math.round(Math.max(...samples)),
  }));
  process.stdout.write(`| start to first answer, ${ROUTES} routes | median ms | min | max |\n|---|---|---|---|\n`);
  for (const row of table) process.stdout.write(`| ${row.name} | ${row.medianMs} | ${row.minMs} | ${row.maxMs} |\n`);
  saveResults({ start: { rounds, routes: ROUTES, table } });
}

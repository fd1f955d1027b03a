// `npm run bench -- soak`: a gateway under a steady rate for minutes, with clients that go away and a config that is edited every ten seconds.
// Memory and handles must be flat, and no request may fail. Exit code 1: one did.
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { laterHalf, type Point, rounded, slopePerMinute, table as tableOf } from './figures.ts';
import { memoryMiB } from './measure.ts';
import { BACKEND_CORE, onCore, PORTS, serve, stop } from './processes.ts';
import { saveResults } from './results.ts';
import { startSelvedge, VERSION } from './selvedge.ts';
import { type SoakCounts, soakLoad } from './soak-load.ts';

export interface SoakBench {
  readonly minutes: number;
  readonly rate: number;
}

const BACKENDS = [PORTS + 90, PORTS + 91, PORTS + 92] as const;
const PORT = PORTS + 95;
const ADMIN = PORTS + 96;
const HOST = 'shop.example.com';
const CONNECTIONS = 200;
const RELOAD_MS = 10_000;
const SAMPLE_MS = 5_000;

interface Seen {
  readonly seconds: number;
  readonly rssMiB: number;
  readonly ownMiB: number;
  readonly heapMiB: number;
  readonly handles: number;
}

export async function benchSoak({ minutes, rate }: SoakBench): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-soak-'));
  const started: ChildProcess[] = [];
  const keep = (child: ChildProcess): unknown => started.push(child);
  const timers: NodeJS.Timeout[] = [];
  const counts: SoakCounts = { requests: 0, good: 0, cut: 0, failed: 0, late: 0, failures: [] };
  try {
    for (const port of BACKENDS)
      await serve([process.execPath, 'bench/soak-backend.ts', String(port)], { port, core: BACKEND_CORE, keep });
    const { pid } = await startSelvedge({ dir, name: 'selvedge', config: configOf(0), port: PORT, keep });
    const seen: Seen[] = [];
    const startedAt = performance.now();
    let edits = 0;
    timers.push(setInterval(() => edit(dir, ++edits), RELOAD_MS));
    timers.push(
      setInterval(() => {
        look(pid as number, startedAt).then(
          (one) => {
            seen.push(one);
            process.stderr.write(
              `${Object.values(one).join('  ')}  ${JSON.stringify({ ...counts, failures: undefined })}\n`,
            );
          },
          (error: Error) => process.stderr.write(`not seen: ${error.message}\n`),
        );
      }, SAMPLE_MS),
    );
    const load = { port: PORT, host: HOST, rate, connections: CONNECTIONS, seconds: minutes * 60 };
    await onCore(BACKEND_CORE, () => soakLoad(load, counts));
    for (const timer of timers) clearInterval(timer);
    // The last edit may be on its way.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const reloads = (await metric('selvedge_config_revision')) - 1;
    report({ counts, seen, edits, reloads, minutes, rate });
  } finally {
    for (const timer of timers) clearInterval(timer);
    for (const child of started) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A shop: pages, orders in two versions, uploads; the usual plugins. `edition` is what an edit changes, shares and headers among it. */
function configOf(edition: number): object {
  const endpoint = (port: number): string => `127.0.0.1:${port}`;
  const [web, first, second] = BACKENDS;
  const share = 10 + (edition % 5) * 10;
  return {
    version: 1,
    admin: { port: ADMIN },
    gateways: {
      public: {
        listeners: [{ name: 'http', host: '127.0.0.1', port: PORT }],
        plugins: [
          { 'rate-limit': { max: 1_000_000_000, window: '1m' } },
          { cors: { origins: ['https://app.example.com'] } },
          { 'security-headers': {} },
        ],
      },
    },
    services: {
      web: { endpoints: [endpoint(web)], healthCheck: { http: { path: '/health' }, interval: '2s' } },
      orders: {
        endpoints: [
          { address: endpoint(first), labels: { version: 'v1' } },
          { address: endpoint(second), labels: { version: 'v2' } },
        ],
        subsets: { v1: { version: 'v1' }, v2: { version: 'v2' } },
      },
    },
    routes: [
      { name: 'shop', match: [{ path: '/' }], to: 'web', responseHeaders: { set: { 'x-edition': String(edition) } } },
      {
        name: 'orders',
        match: [{ path: '/orders' }],
        to: [
          { service: 'orders', subset: 'v1', weight: 100 - share },
          { service: 'orders', subset: 'v2', weight: share },
        ],
        responseHeaders: { set: { 'cache-control': 'no-store' } },
      },
      // Comes and goes.
      ...(edition % 2 === 0 ? [] : [{ name: 'sale', match: [{ path: '/sale' }], to: 'web' }]),
    ],
  };
}

/** Half of the edits write the file in place, half put another in its place, as editors do. */
function edit(dir: string, edition: number): void {
  const file = join(dir, 'selvedge.json');
  const text = JSON.stringify(configOf(edition));
  const written = edition % 2 === 0 ? file : `${file}.new`;
  writeFileSync(written, text);
  if (written !== file) renameSync(written, file);
}

async function look(pid: number, startedAt: number): Promise<Seen> {
  const heap = await metric('nodejs_heap_size_used_bytes');
  const { rss, own } = memoryMiB(pid);
  return {
    seconds: rounded((performance.now() - startedAt) / 1_000, 1),
    rssMiB: rounded(rss, 1),
    ownMiB: rounded(own, 1),
    heapMiB: rounded(heap / 1024 / 1024, 1),
    handles: readdirSync(`/proc/${pid}/fd`).length,
  };
}

async function metric(name: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${ADMIN}/metrics`);
  const value = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(await answer.text())?.[1];
  if (value === undefined) throw new Error(`there is no metric ${name}`);
  return Number(value);
}

interface Soaked extends SoakBench {
  readonly counts: SoakCounts;
  readonly seen: readonly Seen[];
  readonly edits: number;
  readonly reloads: number;
}

function report({ counts, seen, edits, reloads, minutes, rate }: Soaked): void {
  const slope = (of: (one: Seen) => number): number => {
    const points = seen.map((one): Point => [one.seconds, of(one)]);
    return points.length < 3 ? Number.NaN : rounded(slopePerMinute(laterHalf(points)));
  };
  const ends = (of: (one: Seen) => number): string => `${of(seen[seen.length >> 1])}, ${of(seen[seen.length - 1])}`;
  const { failures, ...numbers } = counts;
  const slopes = {
    rssMiBPerMinute: slope(({ rssMiB }) => rssMiB),
    ownMiBPerMinute: slope(({ ownMiB }) => ownMiB),
    heapMiBPerMinute: slope(({ heapMiB }) => heapMiB),
    handlesPerMinute: slope(({ handles }) => handles),
  };
  process.stdout.write(
    tableOf(
      [`${minutes} min at ${rate} requests/s, selvedge ${VERSION}`, ''],
      [
        ['requests, answered in full', `${counts.requests}, ${counts.good}`],
        ['cut off by their clients', counts.cut],
        ['failed', counts.failed],
        ['left out, because every connection was busy', counts.late],
        ['edits of the config, of them in force', `${edits}, ${reloads}`],
        ...(seen.length < 3
          ? []
          : [
              ['RSS MiB at half time, at the end', ends(({ rssMiB }) => rssMiB)],
              ['own MiB', ends(({ ownMiB }) => ownMiB)],
              ['heap in use, MiB', ends(({ heapMiB }) => heapMiB)],
              ['open handles', ends(({ handles }) => handles)],
            ]),
        ['slope of the second half: RSS, own, heap, MiB a minute', Object.values(slopes).slice(0, 3).join(', ')],
        ['slope of open handles, a minute', slopes.handlesPerMinute],
      ],
    ),
  );
  for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
  saveResults({ soak: { minutes, rate, connections: CONNECTIONS, ...numbers, edits, reloads, ...slopes, seen } });
  if (counts.failed > 0 || counts.good === 0) process.exitCode = 1;
  if (reloads !== edits) {
    process.stdout.write(`NOT KEPT: ${edits} edits, ${reloads} of them in force\n`);
    process.exitCode = 1;
  }
}

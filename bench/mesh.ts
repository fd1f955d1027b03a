// `npm run bench -- mesh`: an edge and four services, all processes, under an open-loop load while certificates live for seconds, the CA
// is killed twice and its root is replaced from beginning to end. Exit code 1: a request failed, or something went by that was no TLS.
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { CaProcess } from '../test/e2e/support/mesh/ca.ts';
import { type Mesh, startMesh } from '../test/e2e/support/mesh/mesh.ts';
import type { Owner } from '../test/e2e/support/process.ts';
import { type Answer, openLoad } from '../test/support/open-load.ts';

const SERVICES = { frontend: ['catalog'], catalog: ['prices', 'stock'], prices: [], stock: [] };
const LIFE_SECONDS = 12;
/** Until the new root issues: longer than everybody needs to renew once, and so to hear of it. */
const SPREAD_SECONDS = 15;
/** Of the median: handshakes then take as long as certificates last. */
const OVERLOADED_MS = 1_000;
const CA_AWAY_MS = 1_000;
/** Ten processes that have just started, all at once, are slow for reasons of their own: a quarter of the load comes first. */
const WARM_UP_SECONDS = 5;

export interface MeshBench {
  readonly rate: number;
  /** At least; the load goes on until the old root is gone. */
  readonly seconds: number;
}

export async function benchMesh({ rate, seconds }: MeshBench): Promise<void> {
  const endings: (() => unknown)[] = [];
  const owner: Owner = { teardown: (end) => endings.push(end) };
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-bench-mesh-'));
  try {
    const ca = await CaProcess.make(owner, dir, LIFE_SECONDS);
    await ca.start();
    say('the CA serves; starting the edge and four services with their applications');
    const mesh = await startMesh(owner, dir, { services: SERVICES, tapped: 'catalog', ca });
    const first = openLoad({ port: mesh.port, rate: Math.ceil(rate / 4), seconds: WARM_UP_SECONDS, postShare: 0.5 });
    const warmUp = await first.done;
    const load = openLoad({ port: mesh.port, rate, seconds: seconds + 600, postShare: 0.5 });
    owner.teardown(() => load.stop());
    const inUse = watchCertificates(mesh);
    const loadBefore = loadavg()[0];
    const roots = await replaceRoot(ca, mesh, async (ms) => load.until(ms)).catch((error: Error) => {
      process.stdout.write(`load of the machine: ${loadavg().map(rounded).join(', ')}\n`);
      complain(mesh);
      throw error;
    });
    await load.until(seconds * 1_000);
    load.stop();
    const answers = await load.done;
    inUse.stop();
    process.exitCode = report({
      answers,
      warmUp,
      ca,
      mesh,
      roots,
      inUse: inUse.seen,
      loadBefore,
      rate,
      latestMs: load.latestMs,
    });
    await mesh.stop();
  } finally {
    for (const end of endings.reverse()) await end();
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Roots {
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** The whole of it, while the load runs; what takes days otherwise is made to be over. */
async function replaceRoot(ca: CaProcess, mesh: Mesh, until: (ms: number) => Promise<void>): Promise<Roots> {
  const [old] = ca.roots;
  await until(2_000);
  const issuesAt = Date.now() + SPREAD_SECONDS * 1_000;
  await ca.roll(SPREAD_SECONDS);
  say('selvedge ca roll: a second root is trusted');
  await restart(ca);
  const knownBy = await renewed(ca, mesh, Date.now());
  if (knownBy >= issuesAt)
    throw new Error('the machine is too slow: the new root issued before everybody had heard of it');
  const next = ca.roots.find((root) => !root.raw.equals(old.raw));
  if (next === undefined) throw new Error('there is no second root');
  say('every process has renewed and knows both roots');
  await wait(issuesAt - Date.now() + 200);
  await restart(ca);
  await renewed(ca, mesh, Date.now());
  await wait(500);
  for (const service of Object.keys(SERVICES)) {
    if (!(await mesh.shows(service, next.toString()))) throw new Error(`${service} is not of the new root`);
    if (await mesh.shows(service, old.toString())) throw new Error(`${service} is of the old root still`);
  }
  say('every certificate in use is of the new root');
  ca.retireOldRoot();
  for (let tenths = 0; ca.roots.length > 1; tenths++) {
    if (tenths > 200) throw new Error('the old root does not leave');
    await wait(100);
  }
  await renewed(ca, mesh, Date.now());
  await wait(1_000);
  say('nobody trusts the old root any more');
  return { before: [old.fingerprint256], after: ca.roots.map(({ fingerprint256 }) => fingerprint256) };
}

async function restart(ca: CaProcess): Promise<void> {
  await ca.kill();
  say('the CA is killed');
  await wait(CA_AWAY_MS);
  await ca.start();
  say('the CA serves again');
}

/** When everybody has a certificate that was issued after `since`. */
async function renewed(ca: CaProcess, mesh: Mesh, since: number): Promise<number> {
  const names = [...mesh.processes.keys()];
  for (let tenths = 0; tenths < 300; tenths++) {
    const { issued } = ca;
    if (names.every((name) => issued.some((one) => one.name === name && one.atMs > since))) return Date.now();
    await wait(100);
  }
  throw new Error('not everybody has renewed within 30 s');
}

/** Certificates that each process has had in use, by its own metric: the end of one is later than that of the one before. */
function watchCertificates(mesh: Mesh): { readonly seen: ReadonlyMap<string, number>; stop(): void } {
  const seen = new Map<string, number>();
  const ends = new Map<string, number>();
  const timer = setInterval(() => {
    for (const name of mesh.processes.keys()) {
      mesh.metrics(name).then(
        (text) => {
          const left = /^selvedge_certificate_expiry_seconds\{[^}]*\} (\S+)$/m.exec(text)?.[1];
          const end = Date.now() / 1_000 + Number(left);
          if (left === undefined || end < (ends.get(name) ?? 0) + 3) return;
          ends.set(name, end);
          seen.set(name, (seen.get(name) ?? 0) + 1);
        },
        () => {},
      );
    }
  }, 1_000);
  return { seen, stop: () => clearInterval(timer) };
}

interface Outcome {
  readonly answers: readonly Answer[];
  /** Before them; failures count. */
  readonly warmUp: readonly Answer[];
  readonly ca: CaProcess;
  readonly mesh: Mesh;
  readonly roots: Roots;
  readonly inUse: ReadonlyMap<string, number>;
  readonly loadBefore: number;
  readonly rate: number;
  readonly latestMs: number;
}

/** The exit code. */
function report({ answers, warmUp, ca, mesh, roots, inUse, loadBefore, rate, latestMs }: Outcome): number {
  const failures = [...warmUp, ...answers].filter(({ status }) => status !== 200);
  const sorted = answers.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  const quantile = (share: number): number => rounded(sorted[Math.ceil(share * sorted.length) - 1]);
  const serials = (name: string): number =>
    new Set(ca.issued.filter((one) => one.name === name).map(({ serial }) => serial)).size;
  const certificates = [...mesh.processes.keys()].map((name) => ({
    name,
    issued: serials(name),
    inUse: inUse.get(name) ?? 0,
  }));
  const { tap } = mesh;
  const shorten = (prints: readonly string[]): string => prints.map((print) => print.slice(0, 11)).join(', ');
  const rows: [string, unknown][] = [
    ['requests (half of them POST), to warm up before', `${answers.length}, ${warmUp.length}`],
    ['failures', failures.length],
    ['seconds', rounded((answers.at(-1)?.sentMs ?? 0) / 1_000)],
    ['p50, p99, longest (ms)', `${quantile(0.5)}, ${quantile(0.99)}, ${quantile(1)}`],
    ['latest departure of a request (ms)', rounded(latestMs)],
    ['load of the machine before, after', `${rounded(loadBefore)}, ${rounded(loadavg()[0])}`],
    ...certificates.map(({ name, issued, inUse }): [string, unknown] => [
      `certificates of ${name}: issued, seen in use`,
      `${issued}, ${inUse}`,
    ]),
    ['the CA was killed and started again', ca.starts - 1],
    ['root in force before', shorten(roots.before)],
    ['root in force after', shorten(roots.after)],
    ['TLS records on the tapped wire, of them application data', `${tap.records}, ${tap.data}`],
    ['connections on it', tap.connections],
    ['anything else on it', tap.problems.length === 0 ? 'nothing' : tap.problems.join('; ')],
  ];
  process.stdout.write(`| the mesh at ${rate} requests/s, certificates of ${LIFE_SECONDS} s | |\n|---|---|\n`);
  for (const [what, value] of rows) process.stdout.write(`| ${what} | ${value} |\n`);
  for (const { method, sentMs, status, error } of failures.slice(0, 20))
    process.stdout.write(`failed: ${method} at ${rounded(sentMs / 1_000)} s: ${status} ${error}\n`);
  const checks: Record<string, boolean> = {
    'no request fails': failures.length === 0 && answers.length > 0,
    'only TLS goes over the wire': tap.problems.length === 0,
    'requests went over it': tap.data >= 2 * answers.length,
    'every process went through three certificates at least': certificates.every(
      ({ issued, inUse }) => issued >= 3 && inUse >= 3,
    ),
    'the root in force is another one': roots.after.length === 1 && roots.after[0] !== roots.before[0],
  };
  for (const [promise, kept] of Object.entries(checks)) if (!kept) process.stdout.write(`NOT KEPT: ${promise}\n`);
  const kept = Object.values(checks).every(Boolean);
  if (!kept && quantile(0.5) > OVERLOADED_MS)
    process.stdout.write(
      'This machine does not carry so much: try a lower --rate before anything else is looked for.\n',
    );
  if (!kept) complain(mesh);
  return kept ? 0 : 1;
}

/** What the processes had to say; each sentence once, but for its numbers. */
function complain({ complaints }: Mesh): void {
  const counts = new Map<string, { readonly first: string; times: number }>();
  for (const complaint of complaints) {
    const key = complaint.replace(/\d+/g, '0');
    const known = counts.get(key) ?? { first: complaint, times: 0 };
    known.times += 1;
    counts.set(key, known);
  }
  for (const { first, times } of [...counts.values()].slice(0, 40)) process.stdout.write(`${times} times: ${first}\n`);
}

function say(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 23)} ${text}\n`);
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

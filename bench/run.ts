// `npm run bench`: everything that Selvedge promises of its speed, one benchmark after the other. bench/README.md tells of each.
import { parseArgs } from 'node:util';
import { benchEdge } from './edge.ts';
import { table } from './figures.ts';
import { compare, ratiosOf, tellComparison } from './guard.ts';
import { benchHop } from './hop.ts';
import { benchMesh } from './mesh.ts';
import { benchArmed, benchPlain } from './plain.ts';
import { pointsOf, type Results } from './points.ts';
import { benchReload } from './reload.ts';
import { found, recorded, recordNothing } from './results.ts';
import { benchScale } from './scale.ts';
import { benchSoak } from './soak.ts';
import { benchStart } from './start.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** To see that it works: its figures are not recorded. */
    quick: { type: 'boolean', default: false },
    /** Compare with what is recorded. */
    guard: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
    /** Requests a second. */
    rate: { type: 'string' },
    /** Of the soak. */
    minutes: { type: 'string' },
  },
});
const { quick, guard, only } = values;
const number = (given: string | undefined, usual: number): number => Number(given ?? usual);
const rounds = (usual: number): number => number(values.rounds, quick ? 2 : guard ? 5 : usual);
const seconds = (usual: number): number => number(values.seconds, quick ? 1 : guard ? 2 : usual);
const rate = (usual: number): number => number(values.rate, usual);

interface Bench {
  /** Part of a run of all, and of a run of the guard. */
  readonly in: readonly ('all' | 'guard')[];
  run(): Promise<void>;
}

const BENCHES: Readonly<Record<string, Bench>> = {
  plain: { in: ['all', 'guard'], run: () => benchPlain({ rounds: rounds(7), seconds: seconds(5), only }) },
  edge: { in: ['all', 'guard'], run: () => benchEdge({ rounds: rounds(7), seconds: seconds(5), only }) },
  hop: {
    in: ['all', 'guard'],
    run: () =>
      benchHop({
        rate: rate(1_000),
        rounds: rounds(7),
        seconds: seconds(5),
        warmUp: quick ? 4 : 40,
        only,
        cpuOnly: guard,
      }),
  },
  scale: {
    in: ['all'],
    run: () => benchScale({ rounds: rounds(7), seconds: seconds(5), bodyMiB: quick ? 256 : 1_024, only }),
  },
  reload: { in: ['all'], run: () => benchReload({ rounds: rounds(11), rate: rate(300) }) },
  start: { in: ['all'], run: () => benchStart(rounds(11)) },
  soak: { in: [], run: () => benchSoak({ minutes: number(values.minutes, quick ? 0.5 : 10), rate: rate(2_000) }) },
  armed: { in: [], run: () => benchArmed({ rounds: rounds(7), seconds: seconds(5), only }) },
  mesh: { in: [], run: () => benchMesh({ rate: rate(200), seconds: number(values.seconds, 20) }) },
};

/** One that breaks does not keep the others from being measured; the exit code tells. */
async function runAll(part: 'all' | 'guard'): Promise<void> {
  const broken: string[] = [];
  for (const [name, bench] of Object.entries(BENCHES)) {
    if (!bench.in.includes(part)) continue;
    process.stdout.write(`\n## ${name}\n\n`);
    await bench.run().catch((error: Error) => {
      process.stderr.write(`${name}: ${error.stack}\n`);
      broken.push(`${name} broke: ${error.message}\n`);
    });
  }
  process.stdout.write(`\n${broken.join('')}`);
  if (broken.length > 0) process.exitCode = 1;
}

function tellPoints(): void {
  const met = { true: 'met', false: 'NOT met', null: '-' };
  const rows = pointsOf(found as Results).map((line) => [line.point, line.target, line.measured, met[`${line.met}`]]);
  process.stdout.write(table(['point', 'target', 'measured', ''], rows));
  if (quick) process.stdout.write('\nA quick run: to see that it works. Its figures are not recorded.\n');
}

/** Where and when the figures come from that this run is held against. */
function tellRecord(result: unknown): string {
  if (result === undefined) return 'nothing is recorded';
  const { at, cpu, node, rounds } = result as Record<string, unknown>;
  return `recorded ${at} on ${cpu}, Node ${node}, ${rounds} rounds`;
}

const [name, ...more] = positionals;
if (quick || guard || only !== undefined) recordNothing();
if (more.length > 0 || (name !== undefined && !Object.hasOwn(BENCHES, name))) {
  process.stderr.write(`usage: npm run bench -- [${Object.keys(BENCHES).join('|')}] [--quick] [--guard]\n`);
  process.exitCode = 2;
} else if (guard) {
  await runAll('guard');
  const before = recorded();
  for (const name of Object.keys(found)) process.stdout.write(`${name}: ${tellRecord(before[name])}\n`);
  const comparison = compare(ratiosOf(before as Results), ratiosOf(found as Results));
  process.stdout.write(tellComparison(comparison));
  if (comparison.worse.length > 0 || comparison.compared.length === 0) process.exitCode = 1;
} else if (name === undefined) {
  await runAll('all');
  tellPoints();
} else {
  await BENCHES[name].run();
}

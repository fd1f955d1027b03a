// `npm run bench`: everything that Selvedge promises of its speed, one benchmark after the other. bench/README.md tells of each.
import { parseArgs } from 'node:util';
import { benchEdge } from './edge.ts';
import { benchHop } from './hop.ts';
import { benchMesh } from './mesh.ts';
import { benchArmed, benchPlain } from './plain.ts';
import { recordNothing } from './results.ts';
import { benchScale } from './scale.ts';
import { benchStart } from './start.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** To see that it works: its figures are not recorded. */
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
    /** Requests a second. */
    rate: { type: 'string' },
  },
});
const { quick, only } = values;
const number = (given: string | undefined, usual: number): number => Number(given ?? usual);
const rounds = (usual: number): number => number(values.rounds, quick ? 3 : usual);
const seconds = (usual: number): number => number(values.seconds, quick ? 1 : usual);
const rate = (usual: number): number => number(values.rate, usual);

interface Bench {
  readonly run: () => Promise<void>;
  /** In a run of all. */
  readonly ofAll: boolean;
}

const BENCHES: Readonly<Record<string, Bench>> = {
  plain: { ofAll: true, run: () => benchPlain({ rounds: rounds(7), seconds: seconds(5), only }) },
  edge: { ofAll: true, run: () => benchEdge({ rounds: rounds(7), seconds: seconds(5), only }) },
  hop: { ofAll: true, run: () => benchHop({ rate: rate(1_000), rounds: rounds(7), seconds: seconds(5), only }) },
  scale: {
    ofAll: true,
    run: () => benchScale({ rounds: rounds(7), seconds: seconds(5), bodyMiB: quick ? 256 : 1_024, only }),
  },
  start: { ofAll: true, run: () => benchStart(rounds(11)) },
  armed: { ofAll: false, run: () => benchArmed({ rounds: rounds(7), seconds: seconds(5), only }) },
  mesh: { ofAll: false, run: () => benchMesh({ rate: rate(200), seconds: number(values.seconds, 20) }) },
};

if (quick) recordNothing();
await BENCHES[positionals[0]].run();

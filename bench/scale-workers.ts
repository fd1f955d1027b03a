// Throughput of two workers over one. Load, backend and gateway run wherever the kernel puts them. And what two free cores could serve, by
// what a request costs: a machine of two cores can tell that much.
import { availableParallelism } from 'node:os';
import { rounded, table as tableOf, timesOf } from './figures.ts';
import { median, type Sample, sample } from './measure.ts';
import { BACKEND_PORT, startBackend } from './nginx.ts';
import { PORTS } from './processes.ts';
import type { Part } from './scale.ts';
import { refusal, startSelvedge } from './selvedge.ts';

const FIRST_PORT = PORTS + 45;
const WARM_UP_SECONDS = 3;
/** Two for the workers, one for the load, one for the backend. */
const CORES_NEEDED = 4;

export interface Workers {
  readonly cores: number;
  /** False: the workers had to share their cores with load and backend, and the figure says little. */
  readonly free: boolean;
  /** Requests a second of two workers over one, within rounds. */
  readonly timesOne: number | null;
  /** Requests that two cores could serve over those of one: twice the CPU of a request with one worker over that with two. */
  readonly capacityTimesOne: number;
  readonly requestsPerSecond: readonly number[];
  readonly cpuMicros: readonly number[];
}

/** Null where this version has no workers. */
export async function workers({ dir, keep, rounds, seconds }: Part): Promise<Workers | null> {
  const [one, two] = [1, 2].map((count) => configOf(count));
  const refused = refusal(dir, two);
  if (refused !== null) {
    process.stdout.write(`two workers: skipped, this version does not take them (${refused.split('\n')[0]})\n`);
    return null;
  }
  await startBackend(dir, keep, null);
  const gateways: { workers: number; url: string; pid: number; samples: Sample[] }[] = [];
  for (const [at, config] of [one, two].entries()) {
    const port = FIRST_PORT + at + 1;
    const child = await startSelvedge({ dir, name: `workers-${at + 1}`, config, port, core: null, keep });
    gateways.push({ workers: at + 1, url: `http://127.0.0.1:${port}/`, pid: child.pid as number, samples: [] });
  }
  for (const { pid, url } of gateways) await sample(pid, url, WARM_UP_SECONDS, null, null);
  for (let round = 1; round <= rounds; round++) {
    for (const { workers, pid, url, samples } of gateways) {
      const taken = await sample(pid, url, seconds, null, null);
      samples.push(taken);
      process.stderr.write(
        `round ${round}/${rounds}  workers: ${workers}  ${Math.round(taken.perSecond)} requests/s\n`,
      );
    }
  }
  const cores = availableParallelism();
  const perSecond = gateways.map(({ samples }) => samples.map((taken) => taken.perSecond));
  const cpuMicros = gateways.map(({ samples }) => rounded(median(samples.map((taken) => taken.cpuMicros))));
  const requestsPerSecond = perSecond.map((all) => Math.round(median(all)));
  process.stdout.write(
    tableOf(
      ['workers', 'requests/s', 'CPU µs a request, all processes'],
      gateways.map(({ workers }, at) => [workers, requestsPerSecond[at], cpuMicros[at]]),
    ),
  );
  const free = cores >= CORES_NEEDED;
  const timesOne = timesOf(perSecond[1], perSecond[0]);
  const caution = free
    ? ''
    : `; on ${cores} cores, where load and backend run too: ${CORES_NEEDED} are needed to judge it`;
  const [cpuOfOne, cpuOfTwo] = gateways.map(({ samples }) => samples.map((taken) => taken.cpuMicros));
  const capacityTimesOne = rounded(2 * median(cpuOfOne.map((cpu, round) => cpu / cpuOfTwo[round])));
  process.stdout.write(
    `two workers over one: ${timesOne} (nothing is pinned to a core${caution}); by CPU a request two free cores serve ${capacityTimesOne} times one\n`,
  );
  return { cores, free, timesOne, capacityTimesOne, requestsPerSecond, cpuMicros };
}

function configOf(workers: number): object {
  return {
    version: 1,
    workers,
    admin: { port: 0 },
    telemetry: { accessLog: false },
    gateways: { bench: { listeners: [{ name: 'http', host: '127.0.0.1', port: FIRST_PORT + workers }] } },
    services: { app: { endpoints: [`127.0.0.1:${BACKEND_PORT}`] } },
    routes: [{ name: 'app', to: 'app' }],
  };
}

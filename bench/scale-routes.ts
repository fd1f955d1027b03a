// What a request costs with 10, 1,000 and 10,000 routes: where each is asked for in turn, and where the same ten are.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rounded, table as tableOf, timesOf } from './figures.ts';
import { median, type Sample, sample } from './measure.ts';
import { BACKEND_PORT, startBackend } from './nginx.ts';
import { PORTS } from './processes.ts';
import type { Part } from './scale.ts';
import { startSelvedge } from './selvedge.ts';

const FEW = 10;
const COUNTS = [FEW, 1_000, 10_000] as const;
const SERVICES = 10;
const FIRST_PORT = PORTS + 40;
const WARM_UP_SECONDS = 3;

export interface Routes {
  readonly routes: number;
  /** Routes that requests are for, one after the other: with many of them what belongs to each is in no cache of the processor. */
  readonly asked: number;
  readonly cpuMicros: number;
  /** Within rounds. */
  readonly overTen: number | null;
}

export async function routes({ dir, keep, rounds, seconds }: Part): Promise<readonly Routes[]> {
  await startBackend(dir, keep);
  const cases: { count: number; asked: number; url: string; pid: number; script: string; samples: Sample[] }[] = [];
  for (const [at, count] of COUNTS.entries()) {
    const port = FIRST_PORT + at;
    const child = await startSelvedge({ dir, name: `routes-${count}`, config: configOf(count, port), port, keep });
    for (const asked of new Set([FEW, count])) {
      const script = join(dir, `routes-${asked}.lua`);
      writeFileSync(script, scriptOf(asked));
      cases.push({ count, asked, url: `http://127.0.0.1:${port}`, pid: child.pid as number, script, samples: [] });
    }
  }
  for (const { pid, url, script } of cases) await sample(pid, url, WARM_UP_SECONDS, script);
  for (let round = 1; round <= rounds; round++) {
    for (const { count, asked, pid, url, script, samples } of cases) {
      const taken = await sample(pid, url, seconds, script);
      samples.push(taken);
      process.stderr.write(
        `round ${round}/${rounds}  ${count} routes, ${asked} asked for  ${taken.cpuMicros.toFixed(1)} µs\n`,
      );
    }
  }
  const cpu = cases.map(({ samples }) => samples.map(({ cpuMicros }) => cpuMicros));
  const rows = cases.map(({ count, asked }, at) => ({
    routes: count,
    asked,
    cpuMicros: rounded(median(cpu[at])),
    overTen: timesOf(cpu[at], cpu[0]),
  }));
  process.stdout.write(
    tableOf(
      ['routes', 'asked for', 'CPU µs a request', '× 10 routes'],
      rows.map((row) => Object.values(row)),
    ),
  );
  return rows;
}

/** As real tables are: prefixes of different depth, some with hosts, some with methods. */
function configOf(count: number, port: number): object {
  const names = Array.from({ length: SERVICES }, (_, at) => `service-${at}`);
  return {
    version: 1,
    admin: { port: 0 },
    telemetry: { accessLog: false },
    gateways: { bench: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: Object.fromEntries(names.map((name) => [name, { endpoints: [`127.0.0.1:${BACKEND_PORT}`] }])),
    routes: Array.from({ length: count }, (_, at) => ({
      name: `route-${at}`,
      match: [{ path: pathOf(at), ...(at % 3 === 0 && { methods: ['GET'] }) }],
      to: names[at % SERVICES],
    })),
  };
}

function pathOf(at: number): string {
  return `/team-${at % 40}/api-${at}`;
}

function scriptOf(count: number): string {
  return `local requests, at = {}, 0
function init(args)
  for route = 0, ${count - 1} do
    requests[route + 1] = wrk.format("GET", "/team-" .. route % 40 .. "/api-" .. route .. "/items/17")
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
`;
}

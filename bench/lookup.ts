// What finding the route of a request costs with few routes and with many.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../src/config/load.ts';
import { type RequestView, RouteTable } from '../src/routing/table.ts';
import { median } from './measure.ts';
import { largeConfig } from './reload-config.ts';

const ROUNDS = 15;
const LOOKUPS = 200_000;

interface LookupCost {
  readonly routes: number;
  /** Routes that requests are for, one after the other: with many of them the table is not in the processor's caches. */
  readonly asked: number;
  readonly nanoseconds: number;
}

/** In alternating rounds, as medians. */
export async function lookupCosts(
  dir: string,
): Promise<{ readonly table: readonly LookupCost[]; readonly ratio: number }> {
  const few = await tableOf(dir, 10);
  const many = await tableOf(dir, 10_000);
  const cases = [
    { ...few, routes: 10, asked: 10 },
    { ...many, routes: 10_000, asked: 10 },
    { ...many, routes: 10_000, asked: 10_000 },
  ].map((one) => ({ ...one, requests: one.requests.slice(0, one.asked), samples: [] as number[] }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const { table, requests, samples } of cases) {
      const startedAt = performance.now();
      let found = 0;
      for (let index = 0; index < LOOKUPS; index++)
        if (table.lookup(requests[index % requests.length]) !== null) found++;
      if (found !== LOOKUPS) throw new Error('a request has no route');
      samples.push(((performance.now() - startedAt) * 1e6) / LOOKUPS);
    }
  }
  const table = cases.map(({ routes, asked, samples }) => ({
    routes,
    asked,
    nanoseconds: Math.round(median(samples)),
  }));
  return { table, ratio: Math.round((table[1].nanoseconds / table[0].nanoseconds) * 100) / 100 };
}

async function tableOf(dir: string, routes: number): Promise<{ table: RouteTable<string>; requests: RequestView[] }> {
  const file = join(dir, `lookup-${routes}.yaml`);
  writeFileSync(file, largeConfig(routes, 8080, 0, '127.0.0.1:9', 0));
  const { config } = await loadConfig(file);
  if (config === null) throw new Error('the config of the benchmark is not sound');
  const table = new RouteTable(config.routes.map((route) => ({ route, value: route.name })));
  const requests = config.routes.map(
    ({ hosts, matches: [{ path, methods, headers }] }): RequestView => ({
      host: hosts[0] ?? 'www.example.com',
      path: path.value,
      query: '',
      method: methods[0] ?? 'GET',
      headers: Object.fromEntries(headers.map(({ name, value }) => [name, value])),
    }),
  );
  return { table, requests };
}

// What Selvedge promises of its speed, and whether this run kept it: one line for each point.
import { rounded } from './figures.ts';

interface PlainRow {
  readonly name: string;
  readonly cpuMicros: number;
  readonly overNginx?: number | null;
  readonly overStock?: number | null;
}

interface EdgeRow {
  readonly name: string;
  readonly tokens: number;
  readonly cpuMicros: number;
  readonly overHaproxy: number | null;
  readonly overEnvoy: number | null;
}

interface HopRow {
  readonly rate?: number;
  readonly name: string;
  readonly hop: string;
  readonly cpuPercent: number;
  readonly overNginx: number | null;
  readonly overEnvoy?: number | null;
  readonly rssMiB: number;
  readonly ownMiB: number;
  readonly addedP99Ms: number;
}

interface Table<Row> {
  readonly rounds: number;
  readonly table: readonly Row[];
}

/** What benchmarks have saved, as far as it is looked at again; none of it need be there. */
export interface Results {
  readonly plain?: Table<PlainRow>;
  readonly edge?: Table<EdgeRow>;
  readonly hop?: Table<HopRow> & {
    readonly rate: number;
    readonly calm?: number;
    readonly shared?: { readonly perServiceMiB: number } | null;
  };
  readonly scale?: {
    readonly idle?: readonly { readonly name: string; readonly kibEach: number }[];
    readonly bodies?: readonly {
      readonly name: string;
      readonly way: string;
      readonly peakOfEighthMiB: number;
      readonly peakMiB: number;
    }[];
    readonly routes?: readonly { readonly routes: number; readonly asked: number; readonly overTen: number | null }[];
    readonly workers?: {
      readonly free: boolean;
      readonly timesOne: number | null;
      readonly capacityTimesOne?: number;
    } | null;
  };
  readonly start?: Table<{ readonly name: string; readonly medianMs: number }>;
  readonly reload?: {
    readonly table: readonly {
      readonly routes: number;
      readonly reloadMs: number;
      readonly movedMs?: number;
      readonly longestStallMs: number;
      readonly failed: number;
    }[];
    readonly lookups?: { readonly ratio: number };
  };
}

export interface PointLine {
  readonly point: string;
  readonly target: string;
  readonly measured: string;
  /** Null: not measured, or not to be judged here. */
  readonly met: boolean | null;
}

/** Megabytes as they are promised, of mebibytes as they are measured. */
const mb = (mib: number): number => rounded(mib * 1.048576, 1);
/** A body may have this much on its way. */
const BODY_MIB = 32;

export function pointsOf(results: Results): readonly PointLine[] {
  const { plain, edge, hop, scale, start, reload } = results;
  const proxy = (name: string) => plain?.table.find((row) => row.name === name);
  const edges = (tokens: number) => edge?.table.find((row) => row.name === 'selvedge' && row.tokens === tokens);
  const hops = (rate = hop?.rate) =>
    hop?.table.filter((row) => row.name === 'selvedge, mTLS' && row.rate === rate) ?? [];
  const idle = scale?.idle?.find(({ name }) => name === 'selvedge')?.kibEach;
  const bodies = scale?.bodies?.filter(({ name }) => name === 'selvedge') ?? [];
  const routed = (wanted: number) =>
    scale?.routes?.find(({ routes, asked }) => routes === 10_000 && asked === wanted)?.overTen;
  const workers = scale?.workers;
  const reloaded = (routes: number) => reload?.table.find((row) => row.routes === routes);
  // The package on the Node that comes with it, and the first start of all.
  const starts = start?.table.filter(({ name }) => name.startsWith('package')).slice(0, 2) ?? [];
  return [
    atMost('edge job, CPU × HAProxy', 0.9, edges(500)?.overHaproxy),
    atMost('edge job, CPU × Envoy', 0.9, edges(500)?.overEnvoy),
    atMost('edge job with 20,000 tokens, CPU × HAProxy', 1.3, edges(20_000)?.overHaproxy),
    atMost('edge job with 20,000 tokens, CPU × Envoy', 1.3, edges(20_000)?.overEnvoy),
    atMost('plain proxying, CPU × nginx', 2, proxy('selvedge')?.overNginx),
    atMost('with JSON log, CPU × nginx with one', 2.3, proxy('selvedge + JSON log')?.overNginx),
    atMost('plain proxying, CPU × stock @fastify/http-proxy', 0.33, proxy('selvedge')?.overStock),
    atMost('mTLS hop, CPU × Envoy, the dearer side', 0.9, highest(hops().map((row) => row.overEnvoy))),
    atMost('mTLS hop, CPU × nginx, the dearer side', 2.2, highest(hops().map((row) => row.overNginx))),
    atMost('mTLS hop, memory of its own, MB', 60, highest(hops().map((row) => mb(row.ownMiB)))),
    atMost('mTLS hop, RSS, MB', 100, highest(hops().map((row) => mb(row.rssMiB)))),
    atMost('shared hop, MB a service', 10, hop?.shared ? mb(hop.shared.perServiceMiB) : null),
    atMost(
      'two mTLS hops, added p99 at 200/s, ms',
      1,
      hop?.calm ? highest(hops(hop.calm).map((row) => row.addedP99Ms)) : null,
    ),
    atMost('request with 10,000 routes × 10, the same ten asked for', 1.2, routed(10)),
    atMost('the same, each of 10,000 asked for in turn', 1.2, routed(10_000)),
    atMost('lookup alone with 10,000 routes × 10', 1.2, reload?.lookups?.ratio),
    atMost('reload of 1,000 routes, one changed, ms', 100, reloaded(1_000)?.reloadMs),
    atMost('the same, every line moved, ms', 100, reloaded(1_000)?.movedMs),
    atMost('reload of 10,000 routes, one changed, ms', 1_000, reloaded(10_000)?.reloadMs),
    atMost('the same, every line moved, ms', 1_000, reloaded(10_000)?.movedMs),
    atMost('longest stall of a reload, ms', 50, highest(reload?.table.map((row) => row.longestStallMs) ?? [])),
    atMost('requests failed by reloads', 0, highest(reload?.table.map((row) => row.failed) ?? [])),
    atMost('idle connection, KB', 15, idle === undefined ? null : rounded(idle * 1.024)),
    atMost(
      'big body, MiB of peak memory more than with an eighth',
      BODY_MIB,
      highest(bodies.map((row) => row.peakMiB - row.peakOfEighthMiB)),
    ),
    {
      point: 'two workers, throughput × one',
      target: '≥ 1.8',
      measured: workers?.timesOne
        ? `${workers.timesOne}${workers.free ? '' : ' (too few free cores to judge)'}`
        : 'not measured',
      met: workers?.timesOne && workers.free ? workers.timesOne >= 1.8 : null,
    },
    {
      point: 'two workers, capacity × one, by CPU a request',
      target: '≥ 1.8',
      measured: workers?.capacityTimesOne === undefined ? 'not measured' : String(workers.capacityTimesOne),
      met: workers?.capacityTimesOne === undefined ? null : workers.capacityTimesOne >= 1.8,
    },
    atMost('start to first answer, 50 routes, ms', 500, starts[0]?.medianMs),
    atMost('the very first start, ms', 500, starts[1]?.medianMs),
  ];
}

function atMost(point: string, limit: number, value: number | null | undefined): PointLine {
  const measured = value === null || value === undefined ? null : value;
  return {
    point,
    target: `≤ ${limit}`,
    measured: measured === null ? 'not measured' : String(measured),
    met: measured === null ? null : measured <= limit,
  };
}

/** Null where one of them is missing. */
function highest(values: readonly (number | null | undefined)[]): number | null {
  const known = values.filter((value) => typeof value === 'number');
  return known.length === 0 || known.length < values.length ? null : Math.max(...known);
}

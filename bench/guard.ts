// `npm run bench -- --guard`: whether Selvedge has become dearer than bench/results.json has it. Ratios only, to peers and between its own
// variants: times of one machine say nothing about another, nor about the same one tomorrow.
import { rounded } from './figures.ts';
import type { Results } from './points.ts';

/** What a ratio may be worse by. */
export const ALLOWED = 0.15;
/** A median of fewer says too little. */
const ROUNDS_NEEDED = 3;

/** Less is better in each. */
export type Ratios = Readonly<Record<string, number>>;

export interface Compared {
  readonly name: string;
  readonly recorded: number;
  readonly measured: number;
  /** 0.1: a tenth worse. */
  readonly worseBy: number;
}

export interface Comparison {
  readonly compared: readonly Compared[];
  /** Those of them that are worse than allowed. */
  readonly worse: readonly Compared[];
  readonly skipped: readonly { readonly name: string; readonly why: string }[];
}

/** In the order of `measured`; what only `recorded` has comes last. */
export function compare(recorded: Ratios, measured: Ratios, allowed = ALLOWED): Comparison {
  const compared: Compared[] = [];
  const skipped: { name: string; why: string }[] = [];
  for (const [name, now] of Object.entries(measured)) {
    const before = recorded[name];
    if (before === undefined) skipped.push({ name, why: 'not recorded' });
    else compared.push({ name, recorded: before, measured: now, worseBy: now / before - 1 });
  }
  for (const name of Object.keys(recorded))
    if (measured[name] === undefined) skipped.push({ name, why: 'not measured: the peer is missing' });
  return { compared, worse: compared.filter(({ worseBy }) => worseBy > allowed), skipped };
}

/** Every ratio of Selvedge to something in these results. Results of too few rounds have none. */
export function ratiosOf({ plain, edge, hop }: Results): Ratios {
  const ratios: Record<string, number> = {};
  const add = (name: string, ratio: number | null | undefined): void => {
    if (typeof ratio === 'number') ratios[name] = ratio;
  };
  const quotient = (own: number | undefined, base: number | undefined): number | null =>
    own === undefined || base === undefined ? null : own / base;

  const proxies = enough(plain).filter(({ name }) => name.startsWith('selvedge'));
  // Not those to stock http-proxy: what that takes differs by a fifth between runs.
  for (const { name, overNginx } of proxies) add(`plain: ${name} × nginx with the same log`, overNginx);
  const cpuOf = (wanted: string) => proxies.find(({ name }) => name === wanted)?.cpuMicros;
  add('plain: selvedge, with JSON log × without', quotient(cpuOf('selvedge + JSON log'), cpuOf('selvedge')));

  const edges = enough(edge).filter(({ name }) => name === 'selvedge');
  for (const { tokens, overHaproxy, overEnvoy } of edges) {
    add(`edge: selvedge × haproxy, ${tokens} tokens`, overHaproxy);
    add(`edge: selvedge × envoy, ${tokens} tokens`, overEnvoy);
  }
  const [fewest, most] = [edges[0], edges[edges.length - 1]];
  if (edges.length > 1)
    add(`edge: selvedge, ${most.tokens} tokens × ${fewest.tokens}`, quotient(most.cpuMicros, fewest.cpuMicros));

  const hops = enough(hop).filter(({ name, rate }) => name.startsWith('selvedge') && rate === hop?.rate);
  const plainHop = hops.find((row) => row.hop === 'plain')?.cpuPercent;
  for (const row of hops) {
    add(`hop: ${row.name}, ${row.hop} × nginx`, row.overNginx);
    add(`hop: ${row.name}, ${row.hop} × envoy`, row.overEnvoy);
    if (row.hop !== 'plain') add(`hop: ${row.name}, ${row.hop} × plain`, quotient(row.cpuPercent, plainHop));
  }
  return ratios;
}

function enough<Row>(result: { readonly rounds: number; readonly table: readonly Row[] } | undefined): readonly Row[] {
  return result === undefined || result.rounds < ROUNDS_NEEDED ? [] : result.table;
}

/** What was compared, what was not, and what is worse. */
export function tellComparison({ compared, worse, skipped }: Comparison): string {
  const percent = ({ worseBy }: Compared): string => `${worseBy >= 0 ? '+' : ''}${Math.round(worseBy * 100)} %`;
  const lines = [
    ...compared.map(
      (one) =>
        `compared: ${one.name}: ${rounded(one.recorded)} recorded, ${rounded(one.measured)} now (${percent(one)})`,
    ),
    ...skipped.map(({ name, why }) => `skipped: ${name}: ${why}`),
    ...worse.map((one) => `WORSE: ${one.name}: ${percent(one)}, allowed are ${ALLOWED * 100} %`),
    `${compared.length} ratios compared, ${skipped.length} skipped, ${worse.length} worse by more than ${ALLOWED * 100} %`,
  ];
  return `${lines.join('\n')}\n`;
}

// The route table's judge: the sentences of docs/routing.md, one after the other, over every route, written without the table's code.
import type { Match, RouteConfig, ValueMatch } from '../../../src/config/model.ts';
import type { RequestView } from '../../../src/routing/table.ts';

export interface Verdict {
  readonly route: string;
  readonly match: number;
}

export function naiveLookup(routes: readonly RouteConfig[], view: RequestView): Verdict | null {
  let winner: { verdict: Verdict; rank: readonly number[] } | null = null;
  routes.forEach((route, order) => {
    const hosts = route.hosts.length === 0 ? [''] : route.hosts;
    const specificities = hosts.map((host) => hostSpecificity(host, view.host)).filter((n) => n >= 0);
    if (specificities.length === 0) return;
    route.matches.forEach((match, index) => {
      if (!meets(match, view)) return;
      const rank = [
        Math.max(...specificities),
        { exact: 2, regex: 1, prefix: 0 }[match.path.kind],
        match.path.kind === 'prefix' ? segmentsOf(match.path.value).length : 0,
        match.methods.length > 0 ? 1 : 0,
        match.headers.length,
        match.query.length,
        match.cookies.length,
        -order,
        -index,
      ];
      if (winner === null || greater(rank, winner.rank))
        winner = { verdict: { route: route.name, match: index }, rank };
    });
  });
  return (winner as { verdict: Verdict } | null)?.verdict ?? null;
}

function greater(a: readonly number[], b: readonly number[]): boolean {
  const i = a.findIndex((value, place) => value !== b[place]);
  return i >= 0 && a[i] > b[i];
}

/** -1: does not match. */
function hostSpecificity(pattern: string, host: string): number {
  if (pattern === '') return 0;
  const wanted = pattern.split('.').reverse();
  const given = host.split('.').reverse();
  if (wanted.at(-1) !== '*') return wanted.join() === given.join() ? 1000 : -1;
  wanted.pop();
  if (given.length <= wanted.length) return -1;
  return wanted.every((label, i) => label === given[i]) ? wanted.length : -1;
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}

function meets(match: Match, view: RequestView): boolean {
  const { kind, value } = match.path;
  if (kind === 'exact' && view.path !== value) return false;
  if (kind === 'regex' && !new RegExp(`^(?:${value})$`).test(view.path)) return false;
  if (kind === 'prefix') {
    const given = segmentsOf(view.path);
    if (!segmentsOf(value).every((segment, i) => segment === given[i])) return false;
  }
  if (match.methods.length > 0 && !match.methods.some((method) => method === view.method)) return false;
  const query = new URLSearchParams(view.query);
  const cookies = String(view.headers.cookie ?? '')
    .split(';')
    .map((pair) => pair.trim().split('='));
  return (
    match.headers.every((one) => holds(one, headerOf(view, one.name))) &&
    match.query.every((one) => holds(one, query.get(one.name) ?? undefined)) &&
    match.cookies.every((one) => holds(one, cookies.find(([name]) => name === one.name)?.[1]))
  );
}

function headerOf(view: RequestView, name: string): string | undefined {
  const value = Object.hasOwn(view.headers, name) ? view.headers[name] : undefined;
  return value === undefined ? undefined : [value].flat().join(', ');
}

function holds({ kind, value }: ValueMatch, given: string | undefined): boolean {
  if (kind === 'absent') return given === undefined;
  if (given === undefined) return false;
  if (kind === 'present') return true;
  if (kind === 'exact') return given === value;
  return kind === 'prefix' ? given.slice(0, value.length) === value : new RegExp(`^(?:${value})$`).test(given);
}

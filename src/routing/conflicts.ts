// At check and before every swap: routes that cannot be told apart, and matches that no request can ever reach.
import type { Config, Match, RouteConfig } from '../config/model.ts';
import { formatPlace, type Problem } from '../config/problem.ts';
import { withoutTrailingSlash } from './match.ts';
import { Precedents, type RegexMemory, type Rival } from './precedents.ts';
import { internalHosts, servesListener } from './scope.ts';

/** Where a match can be met: one host of one listener. */
interface Spot {
  readonly key: string;
  /** For people: `gateway public, listener http, host shop.example.com`. */
  readonly text: string;
}

/**
 * Two matches of different routes that are the same at one host of one listener are an error: only their order in the files would
 * decide. A match is a warning when, at every host of every listener it has, one earlier match takes all its requests. Both are
 * certain: no warning is a false one, though not every unreachable match is found. Near-linear in the number of matches.
 */
export function findRouteConflicts(config: Config): Problem[] {
  const finder = new ConflictFinder(config);
  for (const route of config.routes) finder.add(route);
  return finder.problems();
}

class ConflictFinder {
  readonly #config: Config;
  readonly #regexes: RegexMemory = new Map();
  readonly #bySpotAndPath = new Map<string, Precedents>();
  /** The first unconditional match of every path by regex, by spot: nothing with a prefix is reached after it. */
  readonly #everyPath = new Map<string, Rival>();
  readonly #rivals: { readonly rival: Rival; readonly spots: readonly Spot[]; readonly clash: boolean }[] = [];
  readonly #problems: Problem[] = [];
  #routeCount = 0;

  constructor(config: Config) {
    this.#config = config;
  }

  add(route: RouteConfig): void {
    const routeIndex = this.#routeCount;
    this.#routeCount += 1;
    const spots = spotsOf(route, this.#config);
    const reported = new Set<RouteConfig>();
    route.matches.forEach((match, matchIndex) => {
      const rival: Rival = { route, match, path: `routes[${routeIndex}].match[${matchIndex}]` };
      let clash = false;
      for (const spot of spots) {
        const same = this.#precedents(spot, match).admit(rival);
        if (same === null || same.route === route) continue;
        clash = true;
        if (reported.has(same.route)) continue;
        reported.add(same.route);
        this.#problems.push(indistinguishable(rival, same, spot));
      }
      for (const spot of spots) {
        if (takesEveryPath(match) && !this.#everyPath.has(spot.key)) this.#everyPath.set(spot.key, rival);
      }
      this.#rivals.push({ rival, spots, clash });
    });
  }

  #precedents(spot: Spot, match: Match): Precedents {
    const { kind, value } = match.path;
    // No host and no kind has a space in it.
    const key = `${kind} ${spot.key} ${kind === 'prefix' ? withoutTrailingSlash(value) : value}`;
    let precedents = this.#bySpotAndPath.get(key);
    if (precedents === undefined) {
      precedents = new Precedents(this.#regexes);
      this.#bySpotAndPath.set(key, precedents);
    }
    return precedents;
  }

  problems(): Problem[] {
    for (const { rival, spots, clash } of this.#rivals) {
      if (clash || spots.length === 0) continue;
      const hiding = spots.map((spot) => this.#hiddenBy(rival, spot)).filter((by) => by !== null);
      if (hiding.length === spots.length) this.#problems.push(unreachable(rival, hiding[0]));
    }
    return this.#problems;
  }

  #hiddenBy(rival: Rival, spot: Spot): Rival | null {
    if (rival.match.path.kind === 'prefix') {
      const everything = this.#everyPath.get(spot.key);
      if (everything !== undefined) return everything;
    }
    return this.#precedents(spot, rival.match).coveredBy(rival);
  }
}

function spotsOf(route: RouteConfig, config: Config): Spot[] {
  const spots: Spot[] = [];
  const hosts = new Set(route.internal.length > 0 ? internalHosts(route) : route.hosts);
  if (hosts.size === 0) hosts.add('*');
  const addAll = (where: string, text: string): void => {
    for (const host of hosts) {
      spots.push({ key: `${where} ${host}`, text: host === '*' ? `${text}, any host` : `${text}, host ${host}` });
    }
  };
  if (route.internal.length > 0) addAll('outbound', 'internal calls');
  for (const gateway of config.gateways) {
    for (const { name } of gateway.listeners) {
      if (!servesListener(route, gateway.name, name)) continue;
      addAll(JSON.stringify([gateway.name, name]), `gateway ${gateway.name}, listener ${name}`);
    }
  }
  return spots;
}

/** A regex such as `/.*` without any condition: it goes before every prefix. */
function takesEveryPath(match: Match): boolean {
  if (match.path.kind !== 'regex' || match.methods.length > 0) return false;
  if (match.headers.length + match.query.length + match.cookies.length > 0) return false;
  const bare = match.path.value.replace(/^\^|\$$/g, '').replace(/[()]/g, '');
  return bare === '.*' || bare === '/.*' || bare === '.+';
}

function indistinguishable(later: Rival, earlier: Rival, spot: Spot): Problem {
  return {
    severity: 'error',
    place: later.match.at,
    path: later.path,
    message:
      `routes "${later.route.name}" and "${earlier.route.name}" (${formatPlace(earlier.match.at)}) cannot be told apart ` +
      `at ${spot.text}: remove one, or give it another condition`,
  };
}

function unreachable(rival: Rival, by: Rival): Problem {
  const owner = by.route === rival.route ? 'the same route' : `route "${by.route.name}"`;
  return {
    severity: 'warning',
    place: rival.match.at,
    path: rival.path,
    message: `this match of route "${rival.route.name}" is never reached: ${by.path} of ${owner} (${formatPlace(by.match.at)}) goes first and takes all its requests`,
  };
}

// Which endpoint gets the next request: the algorithms, each compiled once a service and subset.
import type { Endpoint } from './endpoint.ts';

/** An endpoint with its weight; only what weighs more than 0 is ever drawn. */
export interface WeightedEndpoint {
  readonly endpoint: Endpoint;
  readonly weight: number;
}

/** The next endpoint, another than those tried where there is one; null: there is none at all. */
export type Draw = (tried: readonly Endpoint[]) => Endpoint | null;

/**
 * Two random choices by weight, the one with fewer requests in flight per weight wins; on a tie the first, so that an idle
 * service is used exactly by weight.
 */
export function leastRequest(members: readonly WeightedEndpoint[], random: () => number): Draw {
  const drawable = members.filter(({ weight }) => weight > 0);
  const starts = new Float64Array(drawable.length);
  let total = 0;
  for (const [index, { weight }] of drawable.entries()) {
    starts[index] = total;
    total += weight;
  }

  return (tried) => {
    if (drawable.length === 0) return null;
    if (tried.length > 0 && drawable.length > 1) {
      // Retries are rare: what is left is compiled anew rather than kept for every combination.
      const left = drawable.filter(({ endpoint }) => !tried.includes(endpoint));
      if (left.length > 0 && left.length < drawable.length) return leastRequest(left, random)([]);
    }
    if (drawable.length === 1) return drawable[0].endpoint;
    const one = indexAt(starts, random() * total);
    const a = drawable[one];
    let point = random() * (total - a.weight);
    if (point >= starts[one]) point += a.weight;
    let two = indexAt(starts, point);
    // Rounding may land on the first choice again.
    if (two === one) two = one === 0 ? 1 : one - 1;
    const b = drawable[two];
    return b.endpoint.inFlight * a.weight < a.endpoint.inFlight * b.weight ? b.endpoint : a.endpoint;
  };
}

/** The last index whose start is not above `point`. */
function indexAt(starts: Float64Array, point: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= point) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Smooth weighted round-robin (as nginx has it): in every cycle each endpoint has its share, spread as evenly as can be. */
export function roundRobin(members: readonly WeightedEndpoint[]): Draw {
  const drawable = members.filter(({ weight }) => weight > 0);
  const credit = new Float64Array(drawable.length);

  function turn(excluded: readonly Endpoint[]): Endpoint | null {
    let best = -1;
    let total = 0;
    for (let index = 0; index < drawable.length; index++) {
      const { endpoint, weight } = drawable[index];
      if (excluded.length > 0 && excluded.includes(endpoint)) continue;
      credit[index] += weight;
      total += weight;
      if (best === -1 || credit[index] > credit[best]) best = index;
    }
    if (best === -1) return null;
    credit[best] -= total;
    return drawable[best].endpoint;
  }

  return (tried) => turn(tried) ?? (tried.length > 0 ? turn([]) : null);
}

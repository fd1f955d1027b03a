// Draws two endpoints by weight and takes the better one: nearly as good as knowing the best of all, without the herd that runs to it.
import type { Endpoint } from '../endpoint.ts';
import { type Draw, indexAt, lineOf, sparingTried, type WeightedEndpoint } from './draw.ts';

/**
 * Two random choices by weight, the one with fewer requests in flight per weight wins; on a tie the first, so that an idle
 * service is used exactly by weight.
 */
export function leastRequest(members: readonly WeightedEndpoint[], random: () => number): Draw {
  return sparingTried(members, (drawable) => {
    const line = lineOf(drawable.map(({ weight }) => weight));
    return () => {
      const one = indexAt(line, random() * line.length);
      const a = drawable[one];
      let point = random() * (line.length - a.weight);
      if (point >= line.starts[one]) point += a.weight;
      let two = indexAt(line, point);
      // Rounding may land on the first choice again.
      if (two === one) two = one === 0 ? 1 : one - 1;
      const b = drawable[two];
      return b.endpoint.inFlight * a.weight < a.endpoint.inFlight * b.weight ? b.endpoint : a.endpoint;
    };
  });
}

/**
 * Two random choices, the one with the lower latency × (requests in flight + 1) wins; in flight counts per weight, in units of
 * the mean weight.
 *
 * Latencies of equal endpoints differ by chance, so two of them win equally often, and weights have to lie in how often each
 * is chosen. The second choice is therefore as far from the first on the line of weights as the heaviest member is long, or
 * anything up to that distance from the other side (the line closes to a circle): every member stands in a pair twice its
 * share of the time, with itself only if it outweighs all the others together. So equal endpoints are used by weight (with
 * little traffic the heavy ones somewhat less: who is asked more often shows more peaks), and the fastest one gets no more than
 * twice its share. A second choice by weight among the others would lose the weights of two members altogether; latency per
 * weight would starve the lighter one of a service with little traffic.
 */
export function peakEwma(members: readonly WeightedEndpoint[], random: () => number, now: () => number): Draw {
  return sparingTried(members, (drawable) => {
    const weights = drawable.map(({ weight }) => weight);
    const line = lineOf(weights);
    const nearest = Math.min(
      line.length / 2,
      weights.reduce((a, b) => Math.max(a, b)),
    );
    const meanWeight = line.length / weights.length;

    function cost({ endpoint, weight }: WeightedEndpoint, at: number): number {
      return endpoint.latency.cost(at) * ((endpoint.inFlight * meanWeight) / weight + 1);
    }

    return (): Endpoint => {
      const point = random() * line.length;
      const opposite = point + nearest + random() * (line.length - 2 * nearest);
      const a = drawable[indexAt(line, point)];
      const b = drawable[indexAt(line, opposite < line.length ? opposite : opposite - line.length)];
      if (a === b) return a.endpoint;
      const at = now();
      return cost(b, at) < cost(a, at) ? b.endpoint : a.endpoint;
    };
  });
}

// Endpoints that remember but are never dialled, and what draws among them come to.
import type { LevelMember } from '../../../../src/upstream/balancing/levels.ts';
import { Endpoint } from '../../../../src/upstream/endpoint.ts';
import { NOBODY, serviceConfig } from '../../../support/fake-upstream.ts';

const { connections } = serviceConfig([]);

export function endpointAt(address: string, hop: string | null = null): Endpoint {
  const spec = { address, hop, tls: null, connections, key: `${address} ${hop}`, owner: NOBODY };
  return new Endpoint(spec, () => {
    throw new Error(`${address} was dialled`);
  });
}

/** e0:1, e1:1 and so on. */
export function weighted(...weights: number[]): LevelMember[] {
  return weights.map((weight, index) => ({ endpoint: endpointAt(`e${index}:1`), weight, zone: null, priority: 0 }));
}

/** Of each member, in their order. */
export function countsOf(
  draw: () => Endpoint | null,
  members: readonly { readonly endpoint: Endpoint }[],
  draws: number,
): number[] {
  const counts = new Map<Endpoint | null, number>();
  for (let index = 0; index < draws; index++) {
    const endpoint = draw();
    counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
  }
  return members.map(({ endpoint }) => counts.get(endpoint) ?? 0);
}

/** Whether independent draws with these weights come to such counts in all but one of 15,000 cases: four standard deviations. */
export function areByWeight(counts: readonly number[], weights: readonly number[]): boolean {
  const draws = counts.reduce((sum, count) => sum + count, 0);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return counts.every((count, index) => {
    const share = weights[index] / total;
    return Math.abs(count - draws * share) <= 4 * Math.sqrt(draws * share * (1 - share));
  });
}

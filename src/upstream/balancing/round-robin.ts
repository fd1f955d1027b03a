// Draws the next endpoint by turns, each as often as it weighs.
import type { Endpoint } from '../endpoint.ts';
import type { Draw, WeightedEndpoint } from './draw.ts';

/** How far an endpoint's turn has come. */
interface Turn {
  credit: number;
}

export type Turns = WeakMap<Endpoint, Turn>;

/**
 * Smooth weighted round-robin (as nginx has it): in every cycle each endpoint has its share, spread as evenly as can be.
 * Who passes the same `turns` again goes on where it was, though members and weights be others; starting over at each
 * change would favour the first member.
 */
export function roundRobin(members: readonly WeightedEndpoint[], turns: Turns = new WeakMap()): Draw {
  const drawable = members.filter(({ weight }) => weight > 0);
  const states = drawable.map(({ endpoint }) => {
    const known = turns.get(endpoint);
    if (known !== undefined) return known;
    const turn = { credit: 0 };
    turns.set(endpoint, turn);
    return turn;
  });

  function next(excluded: readonly Endpoint[]): Endpoint | null {
    let best = -1;
    let total = 0;
    for (let index = 0; index < drawable.length; index++) {
      const { endpoint, weight } = drawable[index];
      if (excluded.length > 0 && excluded.includes(endpoint)) continue;
      states[index].credit += weight;
      total += weight;
      if (best === -1 || states[index].credit > states[best].credit) best = index;
    }
    if (best === -1) return null;
    states[best].credit -= total;
    return drawable[best].endpoint;
  }

  return (tried) => next(tried) ?? (tried.length > 0 ? next([]) : null);
}

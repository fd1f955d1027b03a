// Draws the next endpoint by weight alone, remembering and measuring nothing.
import { type Draw, indexAt, lineOf, sparingTried, type WeightedEndpoint } from './draw.ts';

export function weightedRandom(members: readonly WeightedEndpoint[], random: () => number): Draw {
  return sparingTried(members, (drawable) => {
    const line = lineOf(drawable.map(({ weight }) => weight));
    return () => drawable[indexAt(line, random() * line.length)].endpoint;
  });
}

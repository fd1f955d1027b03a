// Which endpoint gets the next try: what every algorithm starts from, compiled whenever endpoints come, go, fail or return.
import type { Endpoint } from '../endpoint.ts';

/** An endpoint with its weight, which may be a fraction; only what weighs more than 0 is ever drawn. */
export interface WeightedEndpoint {
  readonly endpoint: Endpoint;
  readonly weight: number;
}

/** The next endpoint, another than those tried where there is one; null: there is none at all. */
export type Draw = (tried: readonly Endpoint[]) => Endpoint | null;

/** Members side by side on a line, each as long as its weight. */
export interface Line {
  /** Where each begins, in their order. */
  readonly starts: Float64Array;
  readonly length: number;
}

export function lineOf(weights: readonly number[]): Line {
  const starts = new Float64Array(weights.length);
  let length = 0;
  for (const [index, weight] of weights.entries()) {
    starts[index] = length;
    length += weight;
  }
  return { starts, length };
}

/** The index of the member at `point`: the last one that begins no later. */
export function indexAt({ starts }: Line, point: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= point) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** A draw among those not tried, from one among any: `compile` gets two members or more, each of which weighs something. */
export function sparingTried(
  members: readonly WeightedEndpoint[],
  compile: (drawable: readonly WeightedEndpoint[]) => () => Endpoint,
): Draw {
  const drawable = members.filter(({ weight }) => weight > 0);
  if (drawable.length === 0) return () => null;
  if (drawable.length === 1) return () => drawable[0].endpoint;
  const among = compile(drawable);

  return (tried) => {
    if (tried.length > 0) {
      // Retries are rare: what is left is compiled anew rather than kept for every combination.
      const left = drawable.filter(({ endpoint }) => !tried.includes(endpoint));
      if (left.length === 1) return left[0].endpoint;
      if (left.length > 1 && left.length < drawable.length) return compile(left)();
    }
    return among();
  };
}

// Once per forwarded request, after the match: which of a route's backends gets it.

/** A source of numbers in [0, 1); `Math.random` in production, seeded in tests. */
export type Random = () => number;

/**
 * Chooses by relative weight. Stateless, so shares hold across chains, workers and reloads alike.
 * A weight of 0 is never chosen. Null when no weight is above 0: answer 500 (Gateway API HTTPBackendRef).
 */
export function pickBackend<B extends { readonly weight: number }>(
  backends: readonly B[],
  random: Random = Math.random,
): B | null {
  if (backends.length === 1 && backends[0].weight > 0) return backends[0];
  let total = 0;
  for (const backend of backends) total += backend.weight;
  let left = random() * total;
  let last: B | null = null;
  for (const backend of backends) {
    if (backend.weight <= 0) continue;
    if (left < backend.weight) return backend;
    left -= backend.weight;
    last = backend;
  }
  // Rounding may leave a remainder at the very end of the scale.
  return last;
}

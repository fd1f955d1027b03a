// "Did you mean": the known name nearest to a mistyped one, for every message about names.

/** ` (did you mean "orders"?)`, or nothing when no known name is near. Ties go to the name listed first. */
export function didYouMean(written: string, known: Iterable<string>): string {
  const name = nearest(written, known);
  return name === null ? '' : ` (did you mean "${name}"?)`;
}

/** The known name within a third of the length, at least one edit; null when none is. */
export function nearest(written: string, known: Iterable<string>): string | null {
  const target = written.toLowerCase();
  if (target.length > MAX_LENGTH) return null;
  let best: string | null = null;
  let bound = Math.max(1, Math.min(3, Math.floor(target.length / 3))) + 1;
  for (const name of known) {
    const distance = editDistance(target, name.toLowerCase(), bound);
    if (distance < bound) {
      best = name;
      bound = distance;
    }
  }
  return best;
}

/** The cost grows with the product of the lengths; no name of a config is longer. */
const MAX_LENGTH = 128;

/** Damerau-Levenshtein distance (optimal string alignment); `bound` when it is that or more. */
export function editDistance(a: string, b: string, bound: number): number {
  if (Math.abs(a.length - b.length) >= bound) return bound;
  let twoBack: number[] = [];
  let oneBack = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(oneBack[j] + 1, row[j - 1] + 1, oneBack[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, twoBack[j - 2] + 1);
      row.push(cost);
    }
    twoBack = oneBack;
    oneBack = row;
  }
  return Math.min(oneBack[b.length], bound);
}

// Where requests and endpoints fall among 2^32 places: what ring-hash and maglev find the one by the other with.
import { mix } from '../../http/position.ts';

/** A whole number below 2^32 for the value that requests have in common; the same in every process. */
export { hashOf } from '../../http/position.ts';

/** 2^32 by the golden ratio: its multiples are far apart. */
const STRIDE = 0x9e3779b1;

/** One of many numbers below 2^32 that a hash stands for, each as if drawn anew. */
export function variant(hash: number, index: number): number {
  return mix(mix(hash) ^ Math.imul(index + 1, STRIDE));
}

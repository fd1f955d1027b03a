// What a request takes of its account: always the same, or what a header says that a plugin or the service has set.
import type { FastifyRequest } from 'fastify';

export interface Cost {
  /** What is taken when the request comes, and when a header says nothing of use. */
  readonly least: number;
  readonly most: number;
  /** Lower-case; of the request. */
  readonly header: string | null;
  /** Lower-case; of the response: what it says beyond `least` is taken afterwards. */
  readonly responseHeader: string | null;
}

/** Digits alone: no sign, exponent or fraction can make a request cheap. */
const WHOLE = /^\d{1,15}$/;

export function costOf({ least, most }: Cost, written: unknown): number {
  const text = typeof written === 'number' ? String(written) : written;
  return typeof text === 'string' && WHOLE.test(text) ? Math.min(most, Math.max(least, Number(text))) : least;
}

export function costReader(cost: Cost): (request: FastifyRequest) => number {
  const { header } = cost;
  if (header === null) return () => cost.least;
  return ({ headers }) => costOf(cost, Object.hasOwn(headers, header) ? headers[header] : undefined);
}

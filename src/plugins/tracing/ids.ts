// Random ids for traces and spans.
import { randomBytes } from 'node:crypto';
import { isId } from './context.ts';

/** Asking the system for random bytes costs more than a whole unsampled request: they are fetched for some 170 of them at once. */
const POOL_BYTES = 4_096;
let pool = '';
let next = 0;

function hex(digits: number): string {
  if (next + digits > pool.length) {
    pool = randomBytes(POOL_BYTES).toString('hex');
    next = 0;
  }
  const id = pool.slice(next, next + digits);
  next += digits;
  return isId(id) ? id : hex(digits);
}

export const newTraceId = (): string => hex(32);
export const newSpanId = (): string => hex(16);

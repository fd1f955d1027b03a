// On arrival at a hop: which hops the request has passed, so that one that goes round in circles is stopped.
import { SelvedgeError } from '../errors.ts';
import type { Role } from '../plugin.ts';

/** `3;outbound/orders,inbound/stock`: passages in all, and the hops since the last application. Hops alone read and write it. */
export const HOP_PATH = 'x-selvedge-path';

/** Times that one hop may be passed without an application in between; a second time is still an application that copies headers past its own hop. */
const MAX_PASSAGES = 2;
/** Hops without an application in between: no configuration that works has as many. */
const MAX_HOPS = 16;
/** Passages in all, for circles that lead through an outbound side, where an application seems to have been in between. */
const MAX_IN_ALL = 64;
/** Of a value that is read at all: MAX_HOPS service names of 63 characters, each with its side. */
const MAX_LENGTH = 2_048;

/**
 * The value to send on, this hop included, or the error to answer with. A value that no hop has written counts as none.
 * Applications may copy headers into calls of their own: behind an inbound side it is one that calls an outbound side, so the hops
 * before it are no circle.
 */
export function passThrough(received: unknown, role: Role, owner: string): string | SelvedgeError {
  const self = `${role}/${owner}`;
  if (typeof received !== 'string' || received.length > MAX_LENGTH) return `1;${self}`;
  const mark = received.indexOf(';');
  const total = Number(received.slice(0, mark)) + 1;
  if (mark < 1 || !Number.isSafeInteger(total) || total < 2) return `1;${self}`;
  const passed = received.slice(mark + 1).split(',');
  if (total > MAX_IN_ALL) return looped(self, passed, `after ${MAX_IN_ALL} passages through hops`);
  if (role === 'outbound' && passed[passed.length - 1].startsWith('inbound/')) return `${total};${self}`;
  if (passed.length >= MAX_HOPS)
    return looped(self, passed, `after ${MAX_HOPS} hops without an application in between`);
  let passages = 0;
  for (const hop of passed) if (hop === self) passages++;
  if (passages >= MAX_PASSAGES) return looped(self, passed, 'again without an application in between');
  return `${total};${received.slice(mark + 1)},${self}`;
}

function looped(self: string, passed: readonly string[], how: string): SelvedgeError {
  const circle = [...passed, self].join(' > ');
  return new SelvedgeError(
    'SLV_LOOP_DETECTED',
    `a request has come to ${self} ${how}: ${circle}; an endpoint or "app" there is the address of a hop`,
  );
}

// What requests have in common by which ring-hash, maglev and sessions by header send them to the same endpoint.
import type { IncomingMessage } from 'node:http';
import type { HashKey } from '../config/model.ts';
import { cookieValue } from '../http/cookies.ts';
import { hashOf } from '../http/position.ts';

/** Of a request what such a key may go by. */
export interface KeyedRequest {
  readonly req: IncomingMessage;
  readonly scheme: 'http' | 'https';
  readonly query: string;
  readonly clientAddress: string;
}

/** A whole number below 2^32; a random one where the request lacks what it is to go by. */
export function requestKey(by: HashKey, request: KeyedRequest, random: () => number): number {
  const value = valueIn(by, request);
  return value === null ? Math.floor(random() * 2 ** 32) : hashOf(value);
}

function valueIn(by: HashKey, { req, query, clientAddress }: KeyedRequest): string | null {
  switch (by.kind) {
    case 'clientAddress':
      return clientAddress;
    case 'cookie':
      return cookieValue(req.headers.cookie, by.name);
    case 'query':
      return query === '' ? null : new URLSearchParams(query).get(by.name);
    case 'header': {
      const value = req.headers[by.name];
      // A name such as `constructor` finds something inherited that is no header.
      if (Array.isArray(value)) return value.join(', ');
      return typeof value === 'string' ? value : null;
    }
  }
}

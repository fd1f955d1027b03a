// One JSON answer on its way to the client, held until it is whole and changed.
import type { FastifyRequest } from 'fastify';
import { type DispatchOptions, SelvedgeError } from '../../plugin.ts';
import { forgetOldBody, without } from '../body-headers.ts';
import { isJsonType, isPlain, readJson } from '../json-body.ts';
import type { Held, ResponseReader } from '../whole-response.ts';
import type { RequestChange } from './change-request.ts';

export interface ResponseChange extends RequestChange {
  readonly unreadable: 'fail' | 'pass';
}

/** How the answer is read, and the headers with which it is asked for: in the clear and whole, because nothing else can be changed. */
export function changingReader(
  { headers, method }: DispatchOptions,
  { request, change, maxBytes, count, unreadable }: ResponseChange,
): { readonly headers: string[]; readonly reader: ResponseReader } {
  const asked = [...without(headers, ['accept-encoding', 'range', 'if-range']), 'accept-encoding', 'identity'];
  const fail = (what: string, { status }: Held, cause?: unknown): SelvedgeError | null => {
    count(what);
    if (unreadable === 'pass') return null;
    request.selvedge.because = `transform_${what}`;
    return new SelvedgeError('SLV_UPSTREAM_INVALID', `transform: the answer (${status}) is ${what}`, { cause });
  };
  const reader: ResponseReader = {
    maxBytes,
    wants({ status, headers: received }) {
      if (!isJsonType(received['content-type']) || status === 204 || status === 304) return false;
      // The length that GET would have is not known here.
      if (method === 'HEAD') forgetOldBody(received);
      return method !== 'HEAD';
    },
    read(response, body) {
      if (body.length === 0) return { headers: response.headers, body };
      const made = changed(request, change, maxBytes, response, body);
      if (Buffer.isBuffer(made)) {
        count('changed');
        const received = { ...response.headers };
        forgetOldBody(received);
        return { headers: { ...received, 'content-length': String(made.length) }, body: made };
      }
      const error = fail(made.what, response, made.cause);
      if (error !== null) throw error;
      return { headers: response.headers, body };
    },
    tooLarge: (response) => fail('too_large', response),
  };
  return { headers: asked, reader };
}

function changed(
  request: FastifyRequest,
  change: RequestChange['change'],
  maxBytes: number,
  { status, headers }: Held,
  body: Buffer,
): Buffer | { readonly what: string; readonly cause?: unknown } {
  if (!isPlain(headers['content-encoding'])) return { what: 'compressed' };
  if (status === 206) return { what: 'partial' };
  const read = readJson(body);
  if (read === null) return { what: 'not_json' };
  try {
    return Buffer.from(JSON.stringify(change(read.json, { request, status }, maxBytes)));
  } catch (cause) {
    return { what: 'not_changed', cause };
  }
}

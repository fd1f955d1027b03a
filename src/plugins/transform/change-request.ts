// One JSON body on its way to the service; what cannot be changed is refused, so that nothing gets there as it should not.
import type { FastifyRequest } from 'fastify';
import { type Code, type Dispatch, type DispatchHandler, type DispatchOptions, SelvedgeError } from '../../plugin.ts';
import { OF_THE_OLD_BODY, without } from '../body-headers.ts';
import { isJsonType, isPlain, readJson } from '../json-body.ts';
import { dispatchWhole } from '../whole-body.ts';
import type { Change } from './changes.ts';

export interface RequestChange {
  readonly request: FastifyRequest;
  readonly change: Change;
  readonly maxBytes: number;
  readonly count: (result: string) => void;
}

export function changeRequest(
  dispatch: Dispatch,
  options: DispatchOptions,
  handler: DispatchHandler,
  { request, change, maxBytes, count }: RequestChange,
): boolean {
  const { headers, selvedge } = request;
  const refuse = (what: string, code: Code, detail: string, cause?: unknown): SelvedgeError => {
    count(what);
    selvedge.because = `transform_${what}`;
    return new SelvedgeError(code, `transform: the request body is ${what}`, { detail, cause });
  };
  if (!isJsonType(headers['content-type'])) return dispatch(options, handler);
  if (!isPlain(headers['content-encoding']))
    throw refuse('compressed', 'SLV_UNSUPPORTED_MEDIA_TYPE', 'The body must not be compressed.');
  const bare = { ...options, headers: without(options.headers, OF_THE_OLD_BODY) };
  return dispatchWhole(dispatch, bare, handler, maxBytes, (body) => {
    if (body.length === 0) return body;
    const read = readJson(body);
    if (read === null) throw refuse('not_json', 'SLV_BAD_REQUEST', 'The body is not JSON.');
    try {
      const changed = Buffer.from(JSON.stringify(change(read.json, { request, status: null }, maxBytes)));
      count('changed');
      return changed;
    } catch (error) {
      throw refuse('not_changed', 'SLV_BODY_TOO_LARGE', 'The body would become too large.', error);
    }
  });
}

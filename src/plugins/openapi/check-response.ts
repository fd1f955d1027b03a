// One answer against the document, held until it is whole where its schema is to be asked.
import type { FastifyRequest } from 'fastify';
import { SelvedgeError } from '../../plugin.ts';
import { isPlain, readPlainJson } from '../json-body.ts';
import type { Held, ResponseReader } from '../whole-response.ts';
import { contentFor, type Operation } from './operations.ts';
import type { Reports } from './reports.ts';
import type { Mistake, Validate } from './schemas.ts';

export interface ResponseCheck {
  readonly request: FastifyRequest;
  readonly operation: Operation;
  readonly reports: Reports;
  readonly maxBytes: number;
  /** Null: it is only counted and told. */
  readonly enforced: boolean;
}

export function checkingReader({ request, operation, reports, maxBytes, enforced }: ResponseCheck): ResponseReader {
  const report = (result: string, mistake: Mistake | null): void =>
    reports.found(
      'response',
      enforced ? 'enforce' : 'shadow',
      { result, mistakes: mistake === null ? [] : [{ in: 'body', ...mistake }] },
      request.selvedge,
      operation.name,
    );
  const fail = (result: string, mistake: Mistake | null = null): SelvedgeError => {
    report(result, mistake);
    request.selvedge.because = `openapi_response_${result}`;
    return new SelvedgeError('SLV_UPSTREAM_INVALID', `openapi: the answer to ${operation.name}: ${result}`);
  };
  return {
    maxBytes,
    wants({ status, headers }) {
      const wanted = expectationOf(operation, status, String(headers['content-type'] ?? ''));
      const bodiless = request.method === 'HEAD' || status === 204 || status === 304;
      if (typeof wanted === 'string') {
        // Held, to be refused with whatever it carries.
        if (enforced) return true;
        report(wanted, null);
        return false;
      }
      if (wanted === null || bodiless) reports.valid('response');
      return wanted !== null && !bodiless;
    },
    read(response: Held, body) {
      const { status, headers } = response;
      const wanted = expectationOf(operation, status, String(headers['content-type'] ?? ''));
      const [result, mistake] = verdict(wanted, headers['content-encoding'], status, body);
      if (result === null) reports.valid('response');
      else if (enforced) throw fail(result, mistake);
      else report(result, mistake);
      return { headers, body };
    },
    tooLarge() {
      if (enforced) return fail('too_large');
      report('too_large', null);
      return null;
    },
  };
}

/** How the body is looked at, null: not at all; a word for an answer that is not described. */
function expectationOf({ responses }: Operation, status: number, type: string): Validate | null | string {
  const content =
    responses.get(String(status)) ?? responses.get(`${Math.floor(status / 100)}XX`) ?? responses.get('DEFAULT');
  if (content === undefined) return 'unknown_status';
  if (content.size === 0) return null;
  const validate = type === '' ? null : contentFor(content, type);
  return validate === undefined ? 'media_type' : validate;
}

function verdict(
  wanted: Validate | null | string,
  encoding: string | string[] | undefined,
  status: number,
  body: Buffer,
): [result: string | null, mistake: Mistake | null] {
  if (typeof wanted === 'string') return [wanted, null];
  if (wanted === null) return [null, null];
  if (!isPlain(encoding)) return ['compressed', null];
  if (status === 206) return ['partial', null];
  const read = readPlainJson(body);
  if (read === null) return ['not_json', null];
  const mistake = wanted(read.json);
  return mistake === null ? [null, null] : ['body', mistake];
}

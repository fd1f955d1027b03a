// The head of one request against the document: its operation, parameters, and what type its body has.
import type { FastifyRequest } from 'fastify';
import { queryPairs } from '../../http/query.ts';
import { type Code, SelvedgeError } from '../../plugin.ts';
import { isPlain } from '../json-body.ts';
import { type Api, contentFor, type Operation } from './operations.ts';
import { checkParameter, type FoundMistake, type Pairs, takesName } from './parameters.ts';
import type { Finding } from './reports.ts';
import type { Validate } from './schemas.ts';

/** Told to the client at most; the rest it finds when these are gone. */
const MAX_MISTAKES = 20;

export interface Asked {
  readonly operation: Operation;
  readonly path: ReadonlyMap<string, string>;
}

export interface Refused extends Finding {
  readonly code: Code;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The operation that a request is for, or why there is none. */
export function findOperation({ bases, paths }: Api, { selvedge, method }: FastifyRequest): Asked | Refused {
  for (const base of bases) {
    if (selvedge.path !== base && !selvedge.path.startsWith(`${base}/`)) continue;
    const found = paths.find(selvedge.path.slice(base.length) || '/');
    if (found === null) continue;
    const operation = found.value.get(method) ?? (method === 'HEAD' ? found.value.get('GET') : undefined);
    if (operation !== undefined) return { operation, path: found.parameters };
    const allow = [...found.value.keys()].join(', ');
    return { result: 'unknown_method', mistakes: [], code: 'SLV_METHOD_NOT_ALLOWED', headers: { allow } };
  }
  return { result: 'unknown_path', mistakes: [], code: 'SLV_OPERATION_NOT_FOUND' };
}

/** What is wrong with the head; else how the body is to be looked at, null: not at all. */
export function checkHead(
  { operation, path }: Asked,
  request: FastifyRequest,
  unknownQuery: { readonly denied: boolean; readonly except: ReadonlySet<string> },
): Refused | Validate | null {
  const pairs = queryPairs(request.selvedge.query);
  const mistakes: FoundMistake[] = [];
  for (const parameter of operation.parameters) {
    const mistake = checkParameter(parameter, request, path, pairs);
    if (mistake !== null) mistakes.push(mistake);
  }
  if (unknownQuery.denied) mistakes.push(...unknownNames(operation, pairs, unknownQuery.except));
  const body = checkBodyHead(operation, request);
  if (body !== null && typeof body === 'object' && body.mistakes.length === 0) return body;
  if (body !== null && typeof body === 'object') mistakes.push(...body.mistakes);
  if (mistakes.length > 0)
    return { result: 'parameter', mistakes: mistakes.slice(0, MAX_MISTAKES), code: 'SLV_REQUEST_INVALID' };
  return typeof body === 'function' ? body : null;
}

function unknownNames({ parameters }: Operation, pairs: Pairs, except: ReadonlySet<string>): FoundMistake[] {
  const known = ([name]: Pairs[number]): boolean =>
    except.has(name) || parameters.some((parameter) => takesName(parameter, name));
  // Their names are the client's, so they are counted and not repeated.
  const unknown = pairs.filter((pair) => !known(pair)).length;
  return unknown === 0 ? [] : [{ in: 'query', pointer: '', message: `parameters that are not described: ${unknown}` }];
}

function checkBodyHead({ body }: Operation, { headers }: FastifyRequest): Refused | Validate | null {
  const has = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  const wrong = (message: string): Refused => ({
    result: 'body',
    mistakes: [{ in: 'body', pointer: '', message }],
    code: 'SLV_REQUEST_INVALID',
  });
  if (!has) return body?.required ? wrong('is missing') : null;
  if (body === null) return wrong('is not described: there must be none');
  const validate = contentFor(body.content, headers['content-type'] ?? '');
  const compressed = validate !== null && !isPlain(headers['content-encoding']);
  if (validate === undefined || compressed)
    return { result: 'media_type', mistakes: [], code: 'SLV_UNSUPPORTED_MEDIA_TYPE' };
  return validate;
}

export function refusal({ code, mistakes, headers, result }: Refused): SelvedgeError {
  const errors = mistakes.map(({ in: place, name, pointer, message }) => ({
    in: place,
    ...(name === undefined ? {} : { name }),
    ...(pointer === '' ? {} : { pointer }),
    message,
  }));
  return new SelvedgeError(code, `openapi: ${result}`, {
    ...(errors.length === 0 ? {} : { errors }),
    ...(headers === undefined ? {} : { headers }),
  });
}

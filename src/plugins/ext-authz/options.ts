// The options of ext-authz, and what is wrong with them that a schema cannot say.
import type { Static } from 'typebox';
import { type OptionProblem, parseDurationMs, parseSizeBytes, Type, UNIT_PATTERNS } from '../../plugin.ts';
import { headerNameProblems } from '../identity-header.ts';

const HEADER_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const MAX_BODY = 1_048_576;
const MAX_TIME_MS = 60_000;
const MAX_CACHED_MS = 86_400_000;

const choice = <const T extends readonly string[]>(values: T, fallback: T[number], description: string) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: values, default: fallback, description });

const duration = (description: string, fallback?: string) =>
  Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 200ms or 5s',
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
  });

const path = (description: string, fallback: string) =>
  Type.String({
    pattern: '^(?:/[!-"$->@-~]*)?$',
    patternErrorMessage: 'must be a path that begins with "/", without query',
    default: fallback,
    description,
  });

/** A name, or the beginning of names: `x-tenant-*`. */
const patterns = (description: string) =>
  Type.Array(
    Type.String({ pattern: `^${HEADER_NAME}$`, patternErrorMessage: 'must be a header name, or a beginning with "*"' }),
    { description },
  );

export const ExtAuthzOptions = Type.Object({
  service: Type.String({ minLength: 1, description: 'The service of the config that is asked.' }),
  subset: Type.Optional(Type.String({ minLength: 1, description: 'A subset of it. Default: all of its endpoints.' })),
  protocol: choice(
    ['envoy', 'forward-auth'],
    'envoy',
    "How it is asked: `envoy` sends the request's own method and path, `forward-auth` a GET to `path` with `X-Forwarded-Method`, `-Uri` and so on.",
  ),
  pathPrefix: path('With `envoy`: stands before the path of the request.', ''),
  path: path('With `forward-auth`: the path that is asked.', '/'),
  host: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9._:\\[\\]-]{1,255}$',
      patternErrorMessage: 'must be a host, with a port or without',
      description:
        'Host header of the question. Default: with `envoy` that of the request, with `forward-auth` the name of the service.',
    }),
  ),
  timeout: duration('How long an answer may take, to its end.', '200ms'),
  onFailure: choice(
    ['deny', 'allow'],
    'deny',
    'What becomes of a request about which there is no answer: 503, or it goes through, counted and logged.',
  ),
  allowedHeaders: Type.Optional(
    patterns(
      'Request headers that are sent along beside `Authorization`: names, or beginnings such as `x-tenant-*`. Default: with `envoy` none, with `forward-auth` all.',
    ),
  ),
  allowedUpstreamHeaders: Type.Array(Type.String(), {
    default: [],
    description:
      'Headers of the answer that a request which is let through takes along to its service, by name. From clients they are removed.',
  }),
  allowedClientHeaders: Type.Array(
    Type.String({ pattern: `^${HEADER_NAME}$`, patternErrorMessage: 'must be a header name, or a beginning with "*"' }),
    {
      default: ['set-cookie'],
      description:
        'Headers of a refusal that the client gets, beside those that every refusal needs: content-type, location, www-authenticate, retry-after and cache-control.',
    },
  ),
  allowedClientHeadersOnSuccess: Type.Array(
    Type.String({ pattern: `^${HEADER_NAME}$`, patternErrorMessage: 'must be a header name, or a beginning with "*"' }),
    {
      default: [],
      description: 'Headers of the answer that the client gets with the response, when the request was let through.',
    },
  ),
  withBody: Type.Optional(
    Type.Object(
      {
        maxBytes: Type.Union(
          [
            Type.Integer({ minimum: 1 }),
            Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 8KiB' }),
          ],
          {
            default: '8KiB',
            description: 'The largest body; a request with a larger one is answered 413. At most 1MiB.',
          },
        ),
        timeout: duration('How long the client may take to send it; 408 past that.', '5s'),
      },
      { description: 'Sends the body of the request along. Default: without.' },
    ),
  ),
  cache: Type.Optional(
    Type.Object(
      {
        ttl: duration('How long a yes counts, or for the `max-age` of the answer where that is less.'),
        maxEntries: Type.Integer({
          minimum: 1,
          maximum: 100_000,
          default: 1_000,
          description: 'How many are remembered; past that the oldest is forgotten.',
        }),
      },
      { description: 'Remembers who was let through, by everything that the service was told. Default: not at all.' },
    ),
  ),
});
export type ExtAuthzOptions = Static<typeof ExtAuthzOptions>;

/** Sent to the service in the place of what the client wrote; everything else in `allowedUpstreamHeaders` is an identity. */
export const REPLACED = 'authorization';

export function upstreamNames({ allowedUpstreamHeaders }: ExtAuthzOptions): string[] {
  return [...new Set(allowedUpstreamHeaders.map((name) => name.toLowerCase()))];
}

export function extAuthzProblems(options: ExtAuthzOptions): OptionProblem[] {
  const { allowedUpstreamHeaders, protocol, pathPrefix, path, withBody, cache, allowedHeaders } = options;
  const problems = [
    ...timeProblems('timeout', options.timeout, MAX_TIME_MS),
    ...allowedUpstreamHeaders.flatMap((name, index) => {
      const path = `allowedUpstreamHeaders[${index}]`;
      if (name.includes('*'))
        return [{ path, message: `"${name}" is no name: clients could send what is not named here` }];
      return name.toLowerCase() === REPLACED ? [] : headerNameProblems(path, name, []);
    }),
  ];
  for (const key of ['allowedHeaders', 'allowedClientHeaders', 'allowedClientHeadersOnSuccess'] as const)
    for (const [index, name] of (options[key] ?? []).entries())
      if (name.slice(0, -1).includes('*'))
        problems.push({ path: `${key}[${index}]`, message: `"${name}": "*" stands at the end only` });
  if (protocol === 'envoy' && path !== '/')
    problems.push({ path: 'path', message: 'is for protocol forward-auth; with envoy use pathPrefix' });
  if (protocol === 'forward-auth' && pathPrefix !== '')
    problems.push({ path: 'pathPrefix', message: 'is for protocol envoy; with forward-auth use path' });
  if (pathPrefix.endsWith('/'))
    problems.push({
      path: 'pathPrefix',
      message: 'leave out the "/" at the end: the path of the request begins with one',
    });
  if (withBody !== undefined) {
    const bytes = parseSizeBytes(withBody.maxBytes);
    if (bytes === null || bytes < 1 || bytes > MAX_BODY)
      problems.push({ path: 'withBody.maxBytes', message: `"${withBody.maxBytes}" is not 1B to 1MiB` });
    problems.push(...timeProblems('withBody.timeout', withBody.timeout, MAX_TIME_MS));
  }
  if (cache !== undefined) {
    problems.push(...timeProblems('cache.ttl', cache.ttl, MAX_CACHED_MS));
    if (withBody !== undefined)
      problems.push({
        path: 'cache',
        message: 'cannot be together with withBody: an answer about one body says nothing about the next',
      });
    if (protocol === 'forward-auth' && allowedHeaders === undefined)
      problems.push({
        path: 'cache',
        message:
          'needs allowedHeaders: what is remembered counts for requests that tell the service the same, and with all headers no two do',
      });
  }
  return problems;
}

function timeProblems(path: string, written: string, max: number): OptionProblem[] {
  const ms = parseDurationMs(written);
  if (ms !== null && ms >= 1 && ms <= max) return [];
  return [{ path, message: `"${written}" is not 1ms to ${max / 1_000}s` }];
}

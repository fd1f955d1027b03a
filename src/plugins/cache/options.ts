// What cache can be told.
import type { Static } from 'typebox';
import { type OptionProblem, parseDurationMs, parseSizeBytes, Type, UNIT_PATTERNS } from '../../plugin.ts';

const size = (fallback: string, description: string) =>
  Type.Union(
    [
      Type.Integer({ minimum: 1 }),
      Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 64MiB' }),
    ],
    { default: fallback, description },
  );
const duration = (fallback: string, description: string) =>
  Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 5s',
    default: fallback,
    description,
  });

export const CacheOptions = Type.Object({
  maxBytes: size(
    '64MiB',
    'Memory for stored answers of all chains with these options; the least recently used make room.',
  ),
  maxEntryBytes: size('1MiB', 'Larger answers pass unstored.'),
  maxEntries: Type.Integer({
    minimum: 1,
    maximum: 10_000_000,
    default: 10_000,
    description: 'Stored answers at most.',
  }),
  key: Type.Object(
    {
      headers: Type.Array(
        Type.String({ pattern: '^[A-Za-z0-9-]{1,64}$', patternErrorMessage: 'must be a header name' }),
        {
          default: [],
          maxItems: 20,
          description: 'Request headers that tell answers apart though the service does not name them in `Vary`.',
        },
      ),
      query: Type.Optional(
        Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
          maxItems: 100,
          description:
            'The only query parameters that tell answers apart; the service still gets all. Not given: the whole query.',
        }),
      ),
    },
    {
      default: {},
      description:
        'By what answers are told apart, beside scheme, host, port, path and query, and the route and service that answer.',
    },
  ),
  authorization: Type.Boolean({
    default: false,
    description:
      'Also share answers to requests with credentials, where the service allows it by `public`, `s-maxage` or `must-revalidate`.',
  }),
  heuristic: Type.Boolean({
    default: false,
    description: 'Keep what says nothing of its lifetime for a tenth of the time since `Last-Modified`, a day at most.',
  }),
  staleIfError: duration(
    '0',
    'How long past its time an answer may be used while the service fails, where it says nothing of that itself.',
  ),
  collapse: duration('5s', 'How long a request waits for another that fetches the same; `0`: not at all.'),
  status: Type.Boolean({ default: true, description: 'Say in `Cache-Status` what the cache did.' }),
});

export type Options = Static<typeof CacheOptions>;

export interface Settings {
  readonly maxBytes: number;
  readonly maxEntryBytes: number;
  readonly staleIfErrorMs: number;
  readonly collapseMs: number;
}

export function settingsOf({ maxBytes, maxEntryBytes, staleIfError, collapse }: Options): Settings {
  return {
    maxBytes: parseSizeBytes(maxBytes) ?? 0,
    maxEntryBytes: parseSizeBytes(maxEntryBytes) ?? 0,
    staleIfErrorMs: parseDurationMs(staleIfError) ?? 0,
    collapseMs: parseDurationMs(collapse) ?? 0,
  };
}

export function cacheProblems(options: Options): OptionProblem[] {
  const { maxBytes, maxEntryBytes, collapseMs } = settingsOf(options);
  const problems: OptionProblem[] = [];
  for (const [path, bytes] of Object.entries({ maxBytes, maxEntryBytes }))
    if (bytes < 1) problems.push({ path, message: 'is not a whole number of bytes' });
  if (problems.length === 0 && maxEntryBytes > maxBytes)
    problems.push({
      path: 'maxEntryBytes',
      message: 'is larger than "maxBytes": nothing of that size would be stored',
    });
  if (collapseMs > 60_000) problems.push({ path: 'collapse', message: 'must be at most 1m' });
  return problems;
}

// What compress can be told.
import type { Static } from 'typebox';
import { type OptionProblem, parseSizeBytes, Type, UNIT_PATTERNS } from '../../plugin.ts';

/** Text-like types; the rest is compressed already, or not worth it. */
const TYPES = [
  'text/*',
  '*+json',
  '*+xml',
  'application/json',
  'application/javascript',
  'application/xml',
  'application/x-ndjson',
  'application/wasm',
  'application/graphql',
  'application/vnd.ms-fontobject',
  'font/ttf',
  'font/otf',
  'image/bmp',
];

const level = (least: number, most: number, fallback: number, description: string) =>
  Type.Integer({ minimum: least, maximum: most, default: fallback, description });

export const CompressOptions = Type.Object({
  encodings: Type.Array(Type.Union([Type.Literal('br'), Type.Literal('zstd'), Type.Literal('gzip')]), {
    default: ['br', 'zstd', 'gzip'],
    minItems: 1,
    uniqueItems: true,
    description:
      'What is offered; among those that a client likes equally the first. zstd needs Node 22.15, and is left out on an older one.',
  }),
  levels: Type.Object(
    {
      br: level(0, 11, 4, 'Of Brotli.'),
      zstd: level(1, 19, 3, 'Of Zstandard.'),
      gzip: level(1, 9, 6, 'Of gzip.'),
    },
    { default: {}, description: 'How hard it tries. Higher is smaller and slower.' },
  ),
  minBytes: Type.Union(
    [
      Type.Integer({ minimum: 0 }),
      Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 1KiB' }),
    ],
    {
      default: '1KiB',
      description: 'Smaller answers go as they are. At most 64KiB.',
    },
  ),
  types: Type.Array(
    Type.String({
      pattern: '^(?:[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/(?:\\*|[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*)|\\*\\+[A-Za-z0-9]+)$',
      patternErrorMessage: 'must be a content type such as text/html, text/* or *+json',
    }),
    {
      default: TYPES,
      maxItems: 200,
      description:
        'Content types that are compressed. `text/event-stream` has to be named itself; `text/*` does not include it.',
    },
  ),
  except: Type.Array(Type.String({ pattern: '^/', patternErrorMessage: 'must be a path that begins with /' }), {
    default: [],
    maxItems: 1_000,
    description:
      'Paths, with everything below them, whose answers are never compressed: those that show a secret beside what the client sent.',
  }),
  upstream: Type.Union([Type.Literal('as-asked'), Type.Literal('identity')], {
    default: 'as-asked',
    description:
      '`identity`: the service is asked for plain answers, so that this plugin alone compresses. `as-asked`: it sees the Accept-Encoding of the client and may compress itself.',
  }),
  maxActive: Type.Integer({
    minimum: 1,
    maximum: 100_000,
    default: 256,
    description:
      'Answers that are compressed at once in this chain, each with about 1 MiB of memory. More go as they are, and are counted.',
  }),
});

export type Options = Static<typeof CompressOptions>;

export function compressProblems({ minBytes }: Options): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const bytes = parseSizeBytes(minBytes);
  if (bytes === null) problems.push({ path: 'minBytes', message: `"${minBytes}" is not a whole number of bytes` });
  else if (bytes > 65_536)
    problems.push({
      path: 'minBytes',
      message: 'must be at most 64KiB: so much of an answer is held until its length is known',
    });
  return problems;
}

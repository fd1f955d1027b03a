// The schemas of a document as functions. Whatever a client sends, they take a time that is linear in it.
import { Ajv, type Options, type ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { RE2JS } from 're2js';
import { DocumentError, type OpenApiDocument, type Side } from './document.ts';

/** Instructions of one pattern: the cost per character of a value. */
const MAX_PROGRAM = 1_000;
const MAX_PATTERN = 4_096;

/** What is wrong with a value; `pointer` leads to the place in it. Never the value itself. */
export interface Mistake {
  readonly pointer: string;
  readonly message: string;
}

export type Validate = (value: unknown) => Mistake | null;

/** Longest pointer that is told: its names may be a client's. */
const MAX_POINTER = 200;

export class Schemas {
  readonly #ajv: Ajv;

  constructor(document: OpenApiDocument, side: Side) {
    const options: Options = {
      strict: false,
      logger: false,
      validateSchema: false,
      // The first mistake ends it: a list of half a million is nobody's help.
      allErrors: false,
      code: { regExp: linearPattern, optimize: false },
    };
    this.#ajv = document.v31 ? (new Ajv2020(options) as unknown as Ajv) : new Ajv(options);
    // Ajv's own compares every item with every other.
    this.#ajv.removeKeyword('uniqueItems').addKeyword({
      keyword: 'uniqueItems',
      type: 'array',
      schemaType: 'boolean',
      validate: (wanted: boolean, items: unknown[]) => !wanted || new Set(items.map(canonical)).size === items.length,
      error: { message: 'must not have the same item twice' },
    });
    for (const [name, format] of Object.entries(FORMATS)) this.#ajv.addFormat(name, format);
    this.#ajv.addSchema(document.schemasFor(side), 'document');
  }

  /** Throws a DocumentError for a schema that cannot be used. */
  compile(pointer: string): Validate {
    let validate: ValidateFunction;
    try {
      const uri = pointer.split('/').map(encodeURIComponent).join('/');
      validate = this.#ajv.compile({ $ref: `document#${uri}` });
    } catch (error) {
      throw new DocumentError((error as Error).message, pointer);
    }
    return (value) => {
      try {
        if (validate(value)) return null;
      } catch (error) {
        if (error instanceof RangeError) return { pointer: '', message: 'is nested too deeply' };
        throw error;
      }
      const [mistake] = validate.errors ?? [];
      return {
        pointer: (mistake?.instancePath ?? '').slice(0, MAX_POINTER),
        message: mistake?.message ?? 'is not as it should be',
      };
    };
  }
}

/** Equal for equal JSON values, whatever the order of their fields. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`);
  return `{${fields.sort().join()}}`;
}

/** For Ajv in the place of RegExp: RE2, because JavaScript's own engine backtracks. A pattern is found anywhere in a value, as JSON Schema says. */
const linearPattern = Object.assign(
  (source: string) => {
    if (source.length > MAX_PATTERN) throw new Error(`a pattern is longer than ${MAX_PATTERN} characters`);
    let compiled: RE2JS;
    try {
      // RE2 writes code points in its own way.
      compiled = RE2JS.compile(source.replace(/\\u\{?([0-9A-Fa-f]{1,6})\}?/g, '\\x{$1}'));
    } catch (error) {
      const why = (error as Error).message.replace(/^error parsing regexp: /, '');
      throw new Error(
        `the pattern "${source}" cannot run in linear time or is no RE2 expression: ${why}; lookaround and backreferences are among what it must do without`,
      );
    }
    if (compiled.programSize() > MAX_PROGRAM)
      throw new Error(`the pattern "${source}" compiles to more than ${MAX_PROGRAM} steps: shorten its repetitions`);
    return { test: (value: string) => compiled.matcher(value).find(), toString: () => `re2:${source}` };
  },
  // How Ajv would write it into generated code.
  { code: 'linearPattern' },
) as unknown as NonNullable<NonNullable<Options['code']>['regExp']>;

const DATE = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/;
const TIME = /^(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?(?:z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/i;

function isDate(text: string): boolean {
  if (!DATE.test(text)) return false;
  const [year, month, day] = text.split('-').map(Number);
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
}

/** The ones that are checked; others say what is meant and no more. */
const FORMATS: Readonly<Record<string, Parameters<Ajv['addFormat']>[1]>> = {
  date: { type: 'string', validate: isDate },
  'date-time': {
    type: 'string',
    validate: (text: string) => isDate(text.slice(0, 10)) && /[Tt ]/.test(text[10] ?? '') && TIME.test(text.slice(11)),
  },
  uuid: { type: 'string', validate: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i },
  email: { type: 'string', validate: /^[^\s@]{1,64}@[^\s@]{1,255}$/ },
  ipv4: { type: 'string', validate: /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/ },
  uri: { type: 'string', validate: (text: string) => /^[a-z][a-z0-9+.-]*:/i.test(text) && URL.canParse(text) },
  int32: { type: 'number', validate: (value: number) => Number.isInteger(value) && Math.abs(value + 0.5) <= 2 ** 31 },
  int64: { type: 'number', validate: (value: number) => Number.isInteger(value) },
};

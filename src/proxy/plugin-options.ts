// Options of one plugin against its schema: defaults filled in, everything wrong said at once.
import { Ajv, type Options, type ValidateFunction } from 'ajv';
import type { TSchema } from 'typebox';
import { shapeProblems } from '../config/shape-problems.ts';
import type { OptionProblem } from '../plugin.ts';
import { optionValidator } from './option-validators.ts';

type Json = Record<string, unknown>;

/** Also what the build compiles with. */
export const OPTION_SETTINGS: Options = {
  allErrors: true,
  useDefaults: true,
  strict: false,
  verbose: true,
  // Compiling the meta-schema takes longer than all built-in schemas; one that is malformed fails to compile without it too.
  meta: false,
  validateSchema: false,
  code: { optimize: false },
};

/** For the plugins of users. */
let ajv: Ajv | null = null;

/** One validator per schema object; a plugin file that is edited brings a new one. */
const validators = new WeakMap<object, ValidateFunction>();

export interface CheckedOptions {
  /** A copy with defaults; frozen when there are no problems. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly problems: readonly OptionProblem[];
}

/**
 * Throws what Ajv throws when the schema itself is malformed.
 * @param builtin name of the built-in plugin; not given: it is a user's
 */
export function checkOptions(
  schema: TSchema,
  written: Readonly<Record<string, unknown>>,
  builtin?: string,
): CheckedOptions {
  const options = copy(written) as Json;
  const validate = (builtin === undefined ? undefined : optionValidator(builtin)) ?? validatorOf(schema);
  if (validate(options)) return { options: freeze(options), problems: [] };
  const problems = shapeProblems(validate.errors ?? []).map(({ steps, message }) => ({ path: pathOf(steps), message }));
  return { options, problems };
}

/** Plain objects and lists anew, because defaults are written into them; functions and class instances as they are. */
export function copy(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copy);
  if (!isPlain(value)) return value;
  const result: Json = {};
  for (const key of Object.keys(value)) {
    Object.defineProperty(result, key, {
      value: copy(value[key]),
      writable: true,
      enumerable: true,
      configurable: true,
    });
  }
  return result;
}

function isPlain(value: unknown): value is Json {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function freeze<T>(value: T): T {
  if (Array.isArray(value) || isPlain(value)) {
    for (const inner of Object.values(value)) freeze(inner);
    Object.freeze(value);
  }
  return value;
}

function validatorOf(schema: TSchema): ValidateFunction {
  let validate = validators.get(schema);
  if (validate === undefined) {
    ajv ??= new Ajv(OPTION_SETTINGS);
    validate = ajv.compile(closed(JSON.parse(JSON.stringify(schema))) as object);
    validators.set(schema, validate);
  }
  return validate;
}

/**
 * Refuses unknown keys in every object of the schema that does not say otherwise. Parts of an `allOf` stay open: each of them sees
 * the keys of the others.
 */
export function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const result: Json = {};
  for (const [key, value] of Object.entries(schema)) {
    const data = key === 'default' || key === 'const' || key === 'enum' || key === 'examples' || key === 'allOf';
    result[key] = data
      ? value
      : key === 'properties' || key === 'patternProperties'
        ? closedEach(value as Json)
        : closed(value);
  }
  const isObject =
    result.properties !== undefined || (result.type === 'object' && result.patternProperties === undefined);
  if (isObject && result.additionalProperties === undefined) result.additionalProperties = false;
  return result;
}

function closedEach(properties: Json): Json {
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, closed(schema)]));
}

/** `rules`, `0`, `to` → `rules[0].to`. */
function pathOf(steps: readonly string[]): string {
  return steps.reduce(
    (path, step) => (/^\d+$/.test(step) ? `${path}[${step}]` : path === '' ? step : `${path}.${step}`),
    '',
  );
}

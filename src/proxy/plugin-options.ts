// Options of one plugin against its schema: defaults filled in, everything wrong said at once.
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { TSchema } from 'typebox';
import type { OptionProblem } from '../plugin.ts';
import { nearestName } from './nearest-name.ts';

type Json = Record<string, unknown>;

const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: false, verbose: true });

/** One validator per schema object; a plugin file that is edited brings a new one. */
const validators = new WeakMap<object, ValidateFunction>();

export interface CheckedOptions {
  /** A copy with defaults; frozen when there are no problems. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly problems: readonly OptionProblem[];
}

/** Throws what Ajv throws when the schema itself is malformed. */
export function checkOptions(schema: TSchema, written: Readonly<Record<string, unknown>>): CheckedOptions {
  const options = copy(written) as Json;
  const validate = validatorOf(schema);
  if (validate(options)) return { options: freeze(options), problems: [] };
  return { options, problems: readable(validate.errors ?? []) };
}

/** Plain objects and lists anew, because defaults are written into them; functions and class instances as they are. */
export function copy(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copy);
  if (!isPlain(value)) return value;
  const result: Json = {};
  for (const key of Object.keys(value)) {
    Object.defineProperty(result, key, { value: copy(value[key]), writable: true, enumerable: true, configurable: true });
  }
  return result;
}

function isPlain(value: unknown): value is Json {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
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
    validate = ajv.compile(closed(JSON.parse(JSON.stringify(schema))) as object);
    validators.set(schema, validate);
  }
  return validate;
}

/**
 * Refuses unknown keys in every object of the schema that does not say otherwise. Parts of an `allOf` stay open: each of them sees
 * the keys of the others.
 */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const result: Json = {};
  for (const [key, value] of Object.entries(schema)) {
    const data = key === 'default' || key === 'const' || key === 'enum' || key === 'examples' || key === 'allOf';
    result[key] = data ? value : key === 'properties' || key === 'patternProperties' ? closedEach(value as Json) : closed(value);
  }
  const isObject = result.properties !== undefined || (result.type === 'object' && result.patternProperties === undefined);
  if (isObject && result.additionalProperties === undefined) result.additionalProperties = false;
  return result;
}

function closedEach(properties: Json): Json {
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, closed(schema)]));
}

/** Ajv's errors as sentences; of a union that nothing matched, the alternative that came closest speaks. */
function readable(errors: readonly ErrorObject[]): OptionProblem[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf' || error.keyword === 'oneOf');
  const inside = (error: ErrorObject, union: ErrorObject): boolean => error !== union && error.schemaPath.startsWith(`${union.schemaPath}/`);
  const problems = errors.filter((error) => !unions.some((union) => inside(error, union)) && !unions.includes(error)).map(sentence);
  for (const union of unions) {
    if (unions.some((outer) => inside(union, outer))) continue;
    const nested = errors.filter((error) => inside(error, union) && !unions.includes(error));
    problems.push(...closest(union, nested));
  }
  const seen = new Set<string>();
  return problems.filter(({ path, message }) => !seen.has(`${path} ${message}`) && seen.add(`${path} ${message}`));
}

/** An alternative of the right JSON type is what the user meant: its errors help, those of the others do not. */
function closest(union: ErrorObject, nested: readonly ErrorObject[]): OptionProblem[] {
  const branches = new Map<string, ErrorObject[]>();
  for (const error of nested) {
    const branch = error.schemaPath.slice(union.schemaPath.length + 1).split('/', 1)[0];
    branches.set(branch, [...(branches.get(branch) ?? []), error]);
  }
  const fitting = [...branches.values()].filter(
    (branch) => !branch.some(({ keyword, instancePath }) => instancePath === union.instancePath && (keyword === 'type' || keyword === 'const')),
  );
  const best = fitting.sort((a, b) => a.length - b.length)[0];
  if (best !== undefined) return best.map(sentence);
  const alternatives = new Set(
    [...branches.values()].flatMap((branch) => branch.filter(({ instancePath }) => instancePath === union.instancePath).map(expectation)),
  );
  return [{ path: pathOf(union.instancePath), message: `must be ${[...alternatives].join(' or ')}` }];
}

function expectation(error: ErrorObject): string {
  if (error.keyword === 'const') return JSON.stringify((error.params as { allowedValue: unknown }).allowedValue);
  if (error.keyword === 'type') return article(String((error.params as { type: string | string[] }).type));
  return String(error.message).replace(/^must be /, '');
}

function sentence(error: ErrorObject): OptionProblem {
  const path = pathOf(error.instancePath);
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(params.additionalProperty);
      const known = Object.keys((error.parentSchema as { properties?: object } | undefined)?.properties ?? {});
      return { path: under(path, name), message: `unknown key "${name}"${nearestName(name, known)}` };
    }
    case 'required':
      return { path: under(path, String(params.missingProperty)), message: 'is required' };
    case 'type':
      return { path, message: `must be ${article(String(params.type))}, is ${kindOf(error.data)}` };
    case 'const':
      return { path, message: `must be ${JSON.stringify(params.allowedValue)}` };
    case 'enum': {
      const allowed = (params.allowedValues as unknown[]).map((value) => JSON.stringify(value));
      return { path, message: `must be one of ${allowed.join(', ')}` };
    }
    case 'pattern':
    case 'propertyNames': {
      const description = (error.parentSchema as { description?: string } | undefined)?.description;
      const hint = description === undefined ? '' : ` (${description.replace(/\.$/, '')})`;
      return { path, message: `${JSON.stringify(error.data)} ${String(error.message).replace(/^must/, 'does not')}${hint}` };
    }
    default:
      return { path, message: String(error.message) };
  }
}

function article(type: string): string {
  const [first, ...others] = type.split(',').map((name) => `${/^[aeio]/.test(name) ? 'an' : 'a'} ${name}`.replace('a null', 'null'));
  return [first, ...others].join(' or ');
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : article(typeof value);
}

/** `/rules/0/to` → `rules[0].to`. */
function pathOf(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : under(path, part)), '');
}

function under(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

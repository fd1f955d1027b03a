// Turns what Ajv says about a config into what a person needs to hear: one sentence a mistake, unions as one thing.
import type { ErrorObject } from 'ajv';
import { didYouMean } from './suggest.ts';

/** One mistake: where (JSON pointer steps), whether the key or the value is at fault, and the sentence. */
export interface ShapeProblem {
  readonly steps: readonly string[];
  readonly atKey: boolean;
  readonly message: string;
}

interface SchemaLike {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly SchemaLike[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly patternErrorMessage?: string;
  readonly [keyword: string]: unknown;
}

export function shapeProblems(errors: readonly ErrorObject[]): ShapeProblem[] {
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf');
  const outer = unions.filter((union) => !unions.some((other) => other !== union && isInside(union, other)));
  const problems = errors
    .filter(
      (error) =>
        error.keyword !== 'anyOf' &&
        error.keyword !== 'propertyNames' &&
        error.keyword !== 'if' &&
        !isEcho(error) &&
        !outer.some((union) => isInside(error, union)),
    )
    .map(sentence);
  for (const union of outer) problems.push(...unionProblems(union, errors));
  return problems;
}

/** An alternative of the right JSON type is what the user meant, and its errors help; otherwise the alternatives are listed. */
function unionProblems(union: ErrorObject, errors: readonly ErrorObject[]): ShapeProblem[] {
  const branches = (union.parentSchema as SchemaLike).anyOf ?? [];
  const { data } = union;
  if (typeof data === 'string' && branches.some(({ properties }) => Object.hasOwn(properties ?? {}, data))) {
    const message = `"${data}" is not enough by its name: write { ${data}: … }`;
    return [{ steps: stepsOf(union.instancePath), atKey: false, message }];
  }
  const meant = branches.flatMap((branch, index) => (accepts(branch, union.data) ? [index] : []));
  if (meant.length === 1) {
    const prefix = `${union.schemaPath}/${meant[0]}/`;
    const inside = errors.filter((error) => error.schemaPath.startsWith(prefix) && isWithin(error, union));
    if (inside.length > 0) return shapeProblems(inside);
  }
  const found = isCollection(union.data) ? kindOf(union.data) : JSON.stringify(union.data);
  const literals = branches.flatMap((branch) => (branch.const === undefined ? [] : [String(branch.const)]));
  const texts = branches.filter(
    ({ type, patternErrorMessage }) => type === 'string' && patternErrorMessage === undefined,
  );
  const hint = typeof union.data === 'string' ? didYouMean(union.data, literals) : quoteHint(texts[0], union.data);
  return [
    {
      steps: stepsOf(union.instancePath),
      atKey: false,
      message: `must be ${listed(branches.map(expectation))}, not ${found}${hint}`,
    },
  ];
}

/** Whether the value has the JSON type of the alternative, or is what the alternative literally says. */
function accepts(branch: SchemaLike, value: unknown): boolean {
  if (branch.anyOf !== undefined) return branch.anyOf.some((inner) => accepts(inner, value));
  if (branch.const !== undefined) return branch.const === value;
  const types = branch.type === undefined ? [] : [branch.type].flat();
  return types.some((type) => type === jsonType(value) || (type === 'integer' && typeof value === 'number'));
}

function sentence(error: ErrorObject): ShapeProblem {
  const steps = stepsOf(error.instancePath);
  const params = error.params as Readonly<Record<string, unknown>>;
  const schema = error.parentSchema as SchemaLike;
  const value = (message: string): ShapeProblem => ({ steps, atKey: false, message });
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(params.additionalProperty);
      const hint = didYouMean(name, Object.keys(schema.properties ?? {}));
      return { steps: [...steps, name], atKey: true, message: `unknown key "${name}"${hint}` };
    }
    case 'required':
      return value(`"${String(params.missingProperty)}" is missing`);
    case 'dependencies':
      return {
        steps: [...steps, String(params.property)],
        atKey: true,
        message: `has a meaning only together with "${String(params.missingProperty)}"`,
      };
    case 'type':
      return value(`must be ${expectation(schema)}, not ${described(error.data)}${typeHint(schema, error.data)}`);
    case 'const':
      return value(`must be ${JSON.stringify(params.allowedValue)}, not ${described(error.data)}`);
    case 'enum': {
      const allowed = params.allowedValues as readonly unknown[];
      return value(
        `must be ${listed(allowed.map(String))}, not ${described(error.data)}${didYouMean(String(error.data), allowed.map(String))}`,
      );
    }
    case 'pattern':
      // A key of a map: the pattern is of its name.
      if (error.propertyName !== undefined) {
        return {
          steps: [...steps, error.propertyName],
          atKey: true,
          message: `"${error.propertyName}" ${expected(schema, 'is not a valid name')}`,
        };
      }
      return value(`${expected(schema, 'has the wrong form')}, not ${described(error.data)}`);
    case 'minimum':
      return value(`must be at least ${String(params.limit)}, not ${String(error.data)}`);
    case 'exclusiveMinimum':
      return value(`must be above ${String(params.limit)}, not ${String(error.data)}`);
    case 'maximum':
      return value(`must be at most ${String(params.limit)}, not ${String(error.data)}`);
    case 'minLength':
      return value('must not be empty');
    case 'minItems':
      return value('must have at least one item');
    case 'minProperties':
    case 'maxProperties': {
      const known = Object.keys(schema.properties ?? {});
      return value(
        known.length > 0
          ? `must have exactly one of ${listed(known)}`
          : `must have exactly one key${schema.minProperties === 2 ? ' beside "locked"' : ''}, the name of the plugin`,
      );
    }
    default:
      return value(String(error.message));
  }
}

function expected(schema: SchemaLike, otherwise: string): string {
  return schema.patternErrorMessage ?? otherwise;
}

/** `an integer`, `true`, `a duration such as 10s`. */
function expectation(schema: SchemaLike): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return listed(schema.enum.map(String));
  if (schema.patternErrorMessage !== undefined) return schema.patternErrorMessage.replace(/^must be /, '');
  if (schema.anyOf !== undefined) return listed(schema.anyOf.map(expectation));
  const names = [schema.type ?? 'value'].flat().map((type) => TYPE_NAMES[type] ?? type);
  const keys = Object.keys(schema.properties ?? {});
  const named = keys.length > 0 && keys.length <= MAX_LISTED && typeof schema.additionalProperties !== 'object';
  return named ? `a map with ${listed(keys)}` : listed(names);
}

/** Keys that a message names; past it they help nobody. */
const MAX_LISTED = 6;

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'a map',
  array: 'a list',
  string: 'text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  null: 'nothing',
};

function typeHint(schema: SchemaLike, value: unknown): string {
  if (schema.pattern === undefined) return schema.patternErrorMessage === undefined ? quoteHint(schema, value) : '';
  return schema.type === 'string' && typeof value === 'number' ? ' without a unit' : '';
}

function quoteHint(schema: SchemaLike | undefined, value: unknown): string {
  const unquoted =
    schema?.type === 'string' && schema.enum === undefined && (typeof value === 'number' || typeof value === 'boolean');
  return unquoted ? `: put it in quotes, "${String(value)}"` : '';
}

function described(value: unknown): string {
  return isCollection(value) || value === null || typeof value === 'function'
    ? kindOf(value)
    : shortened(JSON.stringify(value));
}

function shortened(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 57)}…`;
}

function isCollection(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function kindOf(value: unknown): string {
  if (value === null) return 'nothing';
  if (typeof value === 'function') return 'a function';
  return Array.isArray(value) ? 'a list' : 'a map';
}

function jsonType(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function listed(alternatives: readonly string[]): string {
  const distinct = [...new Set(alternatives)];
  return distinct.length < 2
    ? distinct.join('')
    : `${distinct.slice(0, -1).join(', ')} or ${distinct[distinct.length - 1]}`;
}

/** A value of the wrong type is not in the list of allowed ones either; the type says it better. */
function isEcho({ keyword, data, parentSchema }: ErrorObject): boolean {
  return keyword === 'enum' && (parentSchema as SchemaLike).type === 'string' && typeof data !== 'string';
}

function isInside(error: ErrorObject, union: ErrorObject): boolean {
  return error.schemaPath.startsWith(`${union.schemaPath}/`) && isWithin(error, union);
}

/** About the same value or a part of it: items of one list share their schema. */
function isWithin(error: ErrorObject, union: ErrorObject): boolean {
  return error.instancePath === union.instancePath || error.instancePath.startsWith(`${union.instancePath}/`);
}

/** The steps of a JSON pointer, RFC 6901. */
export function stepsOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

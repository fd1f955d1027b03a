// Parameters of one operation: taken out of path, query, headers and cookies by their style, given their type, held against their schema.
import type { FastifyRequest } from 'fastify';
import { cookieValue } from '../../http/cookies.ts';
import { DocumentError, isMap, type Json, type OpenApiDocument } from './document.ts';
import type { Mistake, Schemas, Validate } from './schemas.ts';

export interface FoundMistake extends Mistake {
  /** `path`, `query`, `header`, `cookie`, `body`. */
  readonly in: string;
  readonly name?: string;
}

type Place = 'path' | 'query' | 'header' | 'cookie';
type Kind = 'array' | 'object' | 'primitive';

export interface Parameter {
  readonly in: Place;
  readonly name: string;
  readonly required: boolean;
  readonly allowEmpty: boolean;
  readonly style: string;
  readonly explode: boolean;
  readonly kind: Kind;
  /** JSON types of a plain value, of the items of a list, or of the fields of an object. */
  readonly types: (field: string) => ReadonlySet<string>;
  readonly fields: readonly string[];
  /** The value is JSON (`content` instead of `schema`). */
  readonly json: boolean;
  readonly validate: Validate;
}

/** Decoded name and value as it came, of every pair of a query. */
export type Pairs = readonly (readonly [name: string, value: string])[];

const STYLES: Readonly<Record<Place, readonly string[]>> = {
  path: ['simple'],
  query: ['form', 'spaceDelimited', 'pipeDelimited', 'deepObject'],
  header: ['simple'],
  cookie: ['form'],
};
/** OpenAPI says that descriptions of these are passed over. */
const NOT_PARAMETERS: ReadonlySet<string> = new Set(['accept', 'content-type', 'authorization']);

/** Null for what is no parameter. Throws a DocumentError. */
export function compileParameter(
  document: OpenApiDocument,
  schemas: Schemas,
  written: unknown,
  at: string,
): Parameter | null {
  const { value, pointer } = document.resolve(written, at);
  const { name } = value;
  const place = value.in as Place;
  if (typeof name !== 'string' || name === '') throw new DocumentError('a parameter needs a name', pointer);
  if (!Object.hasOwn(STYLES, String(place)))
    throw new DocumentError(`"in" must be path, query, header or cookie`, pointer);
  if (place === 'header' && NOT_PARAMETERS.has(name.toLowerCase())) return null;
  const style = String(value.style ?? STYLES[place][0]);
  if (!STYLES[place].includes(style))
    throw new DocumentError(`the style "${style}" is not supported in ${place}`, pointer);
  const content = isMap(value.content) ? Object.keys(value.content)[0] : undefined;
  if (value.schema === undefined && content !== 'application/json')
    throw new DocumentError('a parameter needs a "schema", or a "content" of application/json', pointer);
  const json = value.schema === undefined;
  const schemaPointer = json ? `${pointer}/content/application~1json/schema` : `${pointer}/schema`;
  const schema = json ? {} : document.resolve(value.schema, schemaPointer).value;
  const own = typesOf(document, schema);
  const kind: Kind = own.has('array') ? 'array' : own.has('object') ? 'object' : 'primitive';
  const properties = isMap(schema.properties) ? schema.properties : {};
  const items = typesOf(document, schema.items);
  const byField = new Map(Object.entries(properties).map(([field, inner]) => [field, typesOf(document, inner)]));
  const rest = typesOf(document, schema.additionalProperties);
  return {
    in: place,
    name: place === 'header' ? name.toLowerCase() : name,
    required: value.required === true || place === 'path',
    allowEmpty: value.allowEmptyValue === true,
    style,
    explode: typeof value.explode === 'boolean' ? value.explode : style === 'form',
    kind,
    types: (field) => (kind === 'primitive' ? own : kind === 'array' ? items : (byField.get(field) ?? rest)),
    fields: Object.keys(properties),
    json,
    validate: schemas.compile(schemaPointer),
  };
}

/** Null: it is fine, or absent where it may be. */
export function checkParameter(
  parameter: Parameter,
  request: FastifyRequest,
  path: ReadonlyMap<string, string>,
  pairs: Pairs,
): FoundMistake | null {
  const found = readValue(parameter, request, path, pairs);
  const told = { in: parameter.in, name: parameter.name };
  if (found === undefined) return parameter.required ? { ...told, pointer: '', message: 'is missing' } : null;
  if (found === MALFORMED) return { ...told, pointer: '', message: 'is malformed' };
  if (found === '' && parameter.allowEmpty) return null;
  const mistake = parameter.validate(found);
  return mistake === null ? null : { ...told, ...mistake };
}

/** Whether a name of a query belongs to the parameter. */
export function takesName({ in: place, name, kind, style, explode, fields }: Parameter, asked: string): boolean {
  if (place !== 'query') return false;
  if (style === 'deepObject') return asked.startsWith(`${name}[`) && asked.endsWith(']');
  return kind === 'object' && explode ? fields.includes(asked) : asked === name;
}

const MALFORMED = Symbol('malformed');

function readValue(
  parameter: Parameter,
  request: FastifyRequest,
  path: ReadonlyMap<string, string>,
  pairs: Pairs,
): unknown {
  const { name, style, explode, kind, fields } = parameter;
  if (parameter.in === 'query') {
    const own = pairs.filter(([asked]) => takesName(parameter, asked));
    if (own.length === 0) return undefined;
    if (style === 'deepObject')
      return fieldsOf(
        parameter,
        own.map(([asked, value]) => [asked.slice(name.length + 1, -1), value]),
      );
    if (kind === 'object' && explode) return fieldsOf(parameter, own);
    const values = own.map(([, value]) => value);
    if (kind === 'array' && explode && style === 'form') return listOf(parameter, values);
    // Said twice, a service may take either.
    if (values.length > 1) return MALFORMED;
    return parse(
      parameter,
      values[0],
      style === 'spaceDelimited' ? /%20|\+| / : style === 'pipeDelimited' ? /\||%7C/i : ',',
    );
  }
  if (parameter.in === 'path') {
    const value = path.get(name);
    return value === undefined ? undefined : parse(parameter, value, ',');
  }
  if (parameter.in === 'header') {
    const value = Object.hasOwn(request.headers, name) ? request.headers[name] : undefined;
    if (value === undefined) return undefined;
    return parse(parameter, [value].flat().join(','), /\s*,\s*/, (text) => text);
  }
  if (kind === 'object' && explode) {
    const own = fields.flatMap((field) => {
      const value = cookieValue(request.headers.cookie, field);
      return value === null ? [] : [[field, value] as const];
    });
    return own.length === 0 ? undefined : fieldsOf(parameter, own);
  }
  const value = cookieValue(request.headers.cookie, name);
  return value === null ? undefined : parse(parameter, value, ',');
}

/** One text that stands for the whole parameter. */
function parse(parameter: Parameter, text: string, separator: string | RegExp, read = decode): unknown {
  if (parameter.json) {
    try {
      return JSON.parse(read(text) ?? '');
    } catch {
      return MALFORMED;
    }
  }
  if (parameter.kind === 'primitive') return typed(read(text), parameter.types(''));
  const parts = text === '' ? [] : text.split(separator);
  if (parameter.kind === 'array') return listOf(parameter, parts, read);
  if (parameter.explode)
    return fieldsOf(
      parameter,
      parts.map((part) => [part.split('=', 1)[0], part.slice(part.indexOf('=') + 1)]),
      read,
    );
  if (parts.length % 2 === 1) return MALFORMED;
  return fieldsOf(
    parameter,
    parts.flatMap((part, index) => (index % 2 === 0 ? [[part, parts[index + 1]] as const] : [])),
    read,
  );
}

function listOf({ types }: Parameter, values: readonly string[], read = decode): unknown {
  const list = values.map((value) => typed(read(value), types('')));
  return list.includes(MALFORMED) ? MALFORMED : list;
}

function fieldsOf({ types }: Parameter, pairs: Pairs, read = decode): unknown {
  const fields = new Map(pairs.map(([field, value]) => [field, typed(read(value), types(field))]));
  if ([...fields.values()].includes(MALFORMED) || fields.size < pairs.length) return MALFORMED;
  return Object.fromEntries(fields);
}

/** Null: not UTF-8, or an escape that is none. */
function decode(text: string): string | null {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return null;
  }
}

const NUMBER = /^-?(?:0|[1-9]\d{0,308})(?:\.\d{1,308})?(?:[eE][+-]?\d{1,3})?$/;

/** Text as what its schema wants; where it cannot be that it stays text, and the schema says what is wrong. */
function typed(text: string | null, types: ReadonlySet<string>): unknown {
  if (text === null) return MALFORMED;
  if ((types.has('number') || types.has('integer')) && NUMBER.test(text)) return Number(text);
  if (types.has('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** Every JSON type that a schema names, in its alternatives too. */
function typesOf(document: OpenApiDocument, written: unknown, depth = 0): Set<string> {
  const types = new Set<string>();
  if (!isMap(written) || depth > 16) return types;
  const schema: Json = document.resolve(written, '').value;
  for (const type of [schema.type].flat()) if (typeof type === 'string') types.add(type);
  if (types.size === 0 && isMap(schema.properties)) types.add('object');
  for (const key of ['allOf', 'anyOf', 'oneOf']) {
    const branches = Array.isArray(schema[key]) ? (schema[key] as unknown[]) : [];
    for (const branch of branches) for (const type of typesOf(document, branch, depth + 1)) types.add(type);
  }
  return types;
}

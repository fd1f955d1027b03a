// The file as a document: read within bounds, parsed, references looked at, every schema brought to the form that Ajv knows.
import { readFileSync, statSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';

export type Json = Readonly<Record<string, unknown>>;
export type Side = 'request' | 'response';

const MAX_BYTES = 4 * 1_048_576;
/** YAML aliases that are written out, and values of the document altogether. */
const MAX_ALIASES = 100;
const MAX_NODES = 500_000;

/** What is wrong with a document, with the JSON pointer of the place. */
export class DocumentError extends Error {
  readonly pointer: string;

  constructor(message: string, pointer = '') {
    super(pointer === '' ? message : `${pointer}: ${message}`);
    this.pointer = pointer;
  }
}

/** The text of the file. */
export function readDocument(path: string): string {
  const stat = statSync(path);
  if (!stat.isFile()) throw new DocumentError('is not a regular file');
  if (stat.size > MAX_BYTES) throw new DocumentError(`is larger than ${MAX_BYTES / 1_048_576} MiB`);
  return readFileSync(path, 'utf8');
}

export class OpenApiDocument {
  readonly root: Json;
  readonly v31: boolean;

  constructor(text: string) {
    const root = /^\s*\{/.test(text) ? JSON.parse(text) : parseYaml(text, { maxAliasCount: MAX_ALIASES });
    if (!isMap(root)) throw new DocumentError('is no OpenAPI document: it is not an object');
    const { openapi } = root;
    if (typeof openapi !== 'string' || !/^3\.[01]\.\d/.test(openapi))
      throw new DocumentError('"openapi" must be 3.0.x or 3.1.x', '/openapi');
    if (!isMap(root.paths)) throw new DocumentError('"paths" is missing', '/paths');
    this.root = root;
    this.v31 = openapi.startsWith('3.1');
    let nodes = 0;
    walk(root, '', (value, pointer) => {
      if (++nodes > MAX_NODES) throw new DocumentError(`has more than ${MAX_NODES} values`);
      const reference = isMap(value) ? value.$ref : undefined;
      if (typeof reference !== 'string') return;
      if (!reference.startsWith('#/'))
        throw new DocumentError(`"${reference}" leads out of the document: only #/… is followed`, pointer);
      if (this.at(reference) === undefined) throw new DocumentError(`"${reference}" leads nowhere`, pointer);
    });
  }

  /** What a reference leads to; undefined: nothing. */
  at(reference: string): unknown {
    const steps = decodeURIComponent(reference).slice(2).split('/');
    return steps
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
      .reduce<unknown>(
        (value, step) =>
          typeof value === 'object' && value !== null && Object.hasOwn(value, step) ? (value as Json)[step] : undefined,
        this.root,
      );
  }

  /** Follows references to what they stand for, with its place. Circles that consist of references alone lead nowhere. */
  resolve(value: unknown, pointer: string): { readonly value: Json; readonly pointer: string } {
    let found = value;
    let place = pointer;
    for (let steps = 0; isMap(found) && typeof found.$ref === 'string'; steps++) {
      if (steps === 32) throw new DocumentError('references go round in circles', pointer);
      place = found.$ref.slice(1);
      found = this.at(found.$ref);
    }
    if (!isMap(found)) throw new DocumentError('is not an object', place);
    return { value: found, pointer: place };
  }

  /** The whole document for Ajv: what is read only is not asked of requests, what is write only not of answers. */
  schemasFor(side: Side): Json {
    const unasked = side === 'request' ? 'readOnly' : 'writeOnly';
    const convert = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(convert);
      if (!isMap(value)) return value;
      if (!this.v31 && typeof value.$ref === 'string') return { $ref: value.$ref };
      const made: Record<string, unknown> = {};
      for (const [key, inner] of Object.entries(value)) {
        // A name in `properties` may be anything.
        Object.defineProperty(made, key, {
          value: convert(inner),
          enumerable: true,
          writable: true,
          configurable: true,
        });
      }
      this.#dropUnasked(made, unasked);
      return this.v31 ? made : fromDraft4(made);
    };
    return convert(this.root) as Json;
  }

  #dropUnasked(schema: Record<string, unknown>, unasked: string): void {
    const { required, properties } = schema;
    if (!Array.isArray(required) || !isMap(properties)) return;
    schema.required = required.filter((name) => {
      const property = properties[name];
      const found = isMap(property) && typeof property.$ref === 'string' ? this.at(property.$ref) : property;
      return !(isMap(found) && found[unasked] === true);
    });
  }
}

/** Of OpenAPI 3.0: `nullable`, and bounds that say by a flag that they are exclusive. */
function fromDraft4(schema: Record<string, unknown>): Record<string, unknown> {
  for (const [flag, bound] of [
    ['exclusiveMinimum', 'minimum'],
    ['exclusiveMaximum', 'maximum'],
  ]) {
    if (typeof schema[flag] !== 'boolean') continue;
    if (schema[flag] === true && typeof schema[bound] === 'number') {
      schema[flag] = schema[bound];
      delete schema[bound];
    } else delete schema[flag];
  }
  if (schema.nullable !== true) return schema;
  delete schema.nullable;
  return { anyOf: [{ type: 'null' }, schema] };
}

export function isMap(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function escapeStep(step: string): string {
  return step.replaceAll('~', '~0').replaceAll('/', '~1');
}

function walk(value: unknown, pointer: string, visit: (value: unknown, pointer: string) => void): void {
  visit(value, pointer);
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (key === 'example' || key === 'examples') continue;
    walk(inner, `${pointer}/${escapeStep(key)}`, visit);
  }
}

// A whole document compiled: which operation a request is for, and what it has to look like.
import { createHash } from 'node:crypto';
import { DocumentError, escapeStep, isMap, type Json, OpenApiDocument, readDocument } from './document.ts';
import { compileParameter, type Parameter } from './parameters.ts';
import { PathTemplates } from './path-templates.ts';
import { Schemas, type Validate } from './schemas.ts';

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'] as const;
const MAX_OPERATIONS = 5_000;

/** By media type or range; null: its content is not looked at. */
export type Content = ReadonlyMap<string, Validate | null>;

export interface Operation {
  /** `GET /pets/{id}`. */
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: { readonly required: boolean; readonly content: Content } | null;
  /** By status, class (`2XX`) or `default`; empty unless answers are looked at. */
  readonly responses: ReadonlyMap<string, Content>;
}

export interface Api {
  /** Paths below one of these, without a slash at the end. */
  readonly bases: readonly string[];
  readonly paths: PathTemplates<ReadonlyMap<string, Operation>>;
  /** Query parameters that carry a key. */
  readonly keys: ReadonlySet<string>;
}

interface ApiOptions {
  readonly document: string;
  readonly basePath?: string;
  readonly responses: boolean;
}

/** What was compiled last: a reload that leaves the document as it is compiles nothing. */
const compiled = new Map<string, Api>();
const MAX_COMPILED = 16;

/** @throws DocumentError, and what the file system or the parser throws */
export function loadApi(options: ApiOptions): Api {
  const text = readDocument(options.document);
  const digest = createHash('sha256').update(text).digest('base64');
  const key = JSON.stringify([digest, options.basePath, options.responses]);
  const known = compiled.get(key);
  if (known !== undefined) return known;
  const api = compileApi(new OpenApiDocument(text), options);
  if (compiled.size === MAX_COMPILED) compiled.delete(compiled.keys().next().value as string);
  compiled.set(key, api);
  return api;
}

export function compileApi(document: OpenApiDocument, { basePath, responses }: Omit<ApiOptions, 'document'>): Api {
  const schemas = new Schemas(document, 'request');
  const answers = responses ? new Schemas(document, 'response') : null;
  const paths = new PathTemplates<ReadonlyMap<string, Operation>>();
  let count = 0;
  for (const [path, written] of Object.entries(document.root.paths as Json)) {
    if (path.startsWith('x-')) continue;
    const { value: item, pointer } = document.resolve(written, `/paths/${escapeStep(path)}`);
    const operations = new Map<string, Operation>();
    for (const method of METHODS) {
      if (item[method] === undefined) continue;
      if (++count > MAX_OPERATIONS) throw new DocumentError(`has more than ${MAX_OPERATIONS} operations`);
      const name = `${method.toUpperCase()} ${path}`;
      operations.set(method.toUpperCase(), compileOperation(document, schemas, answers, name, item, method, pointer));
    }
    paths.add(path, operations, pointer);
  }
  return {
    bases: basePath === undefined ? serverPaths(document) : [trimmed(basePath)],
    paths,
    keys: keyParameters(document),
  };
}

function compileOperation(
  document: OpenApiDocument,
  schemas: Schemas,
  answers: Schemas | null,
  name: string,
  item: Json,
  method: string,
  pointer: string,
): Operation {
  const { value: operation, pointer: at } = document.resolve(item[method], `${pointer}/${method}`);
  const parameters = new Map<string, Parameter>();
  for (const [list, place] of [
    [item.parameters, `${pointer}/parameters`],
    [operation.parameters, `${at}/parameters`],
  ] as const)
    for (const [index, written] of (Array.isArray(list) ? list : []).entries()) {
      const parameter = compileParameter(document, schemas, written, `${place}/${index}`);
      if (parameter !== null) parameters.set(`${parameter.in} ${parameter.name}`, parameter);
    }
  const told = answers === null || !isMap(operation.responses) ? {} : operation.responses;
  return {
    name,
    parameters: [...parameters.values()],
    body:
      operation.requestBody === undefined
        ? null
        : compileBody(document, schemas, operation.requestBody, `${at}/requestBody`),
    responses: new Map(
      Object.entries(told).map(([status, written]) => {
        const { value, pointer: place } = document.resolve(written, `${at}/responses/${status}`);
        return [status.toUpperCase(), compileContent(answers as Schemas, value.content, `${place}/content`)];
      }),
    ),
  };
}

function compileBody(document: OpenApiDocument, schemas: Schemas, written: unknown, at: string): Operation['body'] {
  const { value, pointer } = document.resolve(written, at);
  return { required: value.required === true, content: compileContent(schemas, value.content, `${pointer}/content`) };
}

function compileContent(schemas: Schemas, content: unknown, pointer: string): Content {
  return new Map(
    Object.entries(isMap(content) ? content : {}).map(([type, media]) => {
      const name = type.split(';', 1)[0].trim().toLowerCase();
      const has = isMap(media) && media.schema !== undefined && (/[/+]json$/.test(name) || name.endsWith('*'));
      return [name, has ? schemas.compile(`${pointer}/${escapeStep(type)}/schema`) : null];
    }),
  );
}

/** Undefined: the type is not described. */
export function contentFor(content: Content, type: string): Validate | null | undefined {
  const name = type.split(';', 1)[0].trim().toLowerCase();
  for (const range of [name, `${name.split('/', 1)[0]}/*`, '*/*']) if (content.has(range)) return content.get(range);
  return undefined;
}

/** Of `servers`; a URL that is relative or absolute, variables by their defaults. */
function serverPaths({ root: { servers } }: OpenApiDocument): string[] {
  const urls = (Array.isArray(servers) ? servers : []).filter(isMap).map(({ url, variables }) =>
    String(url).replace(/\{([^{}]+)\}/g, (_, name) => {
      const variable = isMap(variables) && Object.hasOwn(variables, name) ? variables[name] : undefined;
      return isMap(variable) ? String(variable.default) : '';
    }),
  );
  const paths = urls.flatMap((url) =>
    URL.canParse(url, 'http://any/') ? [trimmed(new URL(url, 'http://any/').pathname)] : [],
  );
  return paths.length === 0 ? [''] : [...new Set(paths)];
}

function trimmed(path: string): string {
  return path.replace(/\/$/, '');
}

function keyParameters(document: OpenApiDocument): Set<string> {
  const { components } = document.root;
  const schemes =
    isMap(components) && isMap(components.securitySchemes) ? Object.values(components.securitySchemes) : [];
  return new Set(
    schemes.flatMap((scheme) =>
      isMap(scheme) && scheme.type === 'apiKey' && scheme.in === 'query' ? [String(scheme.name)] : [],
    ),
  );
}

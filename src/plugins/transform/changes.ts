// What `transform` does to a JSON body: remove, then rename, then set, then wrap; by JSON pointer or dotted path.
import { isContainer } from '../json-body.ts';
import { type Context, compileValue, type Template } from './template.ts';

const MAX_STEPS = 32;

export interface WrittenChanges {
  readonly remove?: readonly string[];
  readonly rename?: Readonly<Record<string, string>>;
  readonly set?: Readonly<Record<string, unknown>>;
  readonly wrap?: string;
}

/** Throws a RangeError where the body would become larger than `maxBytes` by what is set. */
export type Change = (body: unknown, context: Context, maxBytes: number) => unknown;

export function compileChanges(
  { remove = [], rename = {}, set = {}, wrap }: WrittenChanges,
  side: 'request' | 'response',
): Change {
  const removals = remove.map(stepsOf);
  const renames = Object.entries(rename).map(([path, name]) => [stepsOf(path), name] as const);
  const values: (readonly [string[], Template])[] = Object.entries(set).map(([path, value]) => [
    stepsOf(path),
    compileValue(value, side),
  ]);
  return (body, context, maxBytes) => {
    for (const steps of removals) visit(body, steps, false, removeAt);
    for (const [steps, name] of renames) visit(body, steps, false, (container, key) => renameAt(container, key, name));
    let budget = maxBytes;
    for (const [steps, template] of values) {
      const value = template(context);
      if (value === undefined) continue;
      const bytes = JSON.stringify(value).length;
      visit(body, steps, true, (container, key) => {
        budget -= bytes;
        if (budget < 0) throw new RangeError(`what is set is larger than ${maxBytes} bytes`);
        setAt(container, key, isContainer(value) ? structuredClone(value) : value);
      });
    }
    if (wrap === undefined) return body;
    const wrapped = {};
    define(wrapped, wrap, body);
    return wrapped;
  };
}

/** Null: fine. */
export function pathProblem(path: string): string | null {
  const steps = stepsOf(path);
  if (steps.length === 0 || steps.includes('')) return `"${path}" names no field: write /user/name or user.name`;
  if (/~(?![01])/.test(path) && path.startsWith('/')) return `"${path}" is no JSON pointer: "~" is written ~0, "/" ~1`;
  return steps.length > MAX_STEPS ? `"${path}" has more than ${MAX_STEPS} steps` : null;
}

/** RFC 6901 where it begins with a slash, else names with dots between them. */
function stepsOf(path: string): string[] {
  if (!path.startsWith('/')) return path === '' ? [] : path.split('.');
  return path
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

type Container = Record<string, unknown> | unknown[];

/** Calls `act` with every place that the steps lead to; `*` is every item or field. Own fields alone: there is no way to a prototype. */
function visit(
  value: unknown,
  steps: readonly string[],
  create: boolean,
  act: (container: Container, key: string) => void,
): void {
  if (!isContainer(value)) return;
  const [step, ...rest] = steps;
  // From the end, so that what is removed moves nothing that is still to be visited.
  const keys = step === '*' ? Object.keys(value).reverse() : [step];
  for (const key of keys) {
    if (rest.length === 0) act(value, key);
    else if (Object.hasOwn(value, key)) visit((value as Record<string, unknown>)[key], rest, create, act);
    else if (create && !Array.isArray(value)) {
      define(value, key, {});
      visit(value[key], rest, create, act);
    }
  }
}

function removeAt(container: Container, key: string): void {
  if (!Array.isArray(container)) delete container[key];
  else if (isIndex(key, container.length)) container.splice(Number(key), 1);
}

function renameAt(container: Container, key: string, name: string): void {
  if (Array.isArray(container) || !Object.hasOwn(container, key) || key === name) return;
  const value = container[key];
  delete container[key];
  define(container, name, value);
}

function setAt(container: Container, key: string, value: unknown): void {
  if (!Array.isArray(container)) define(container, key, value);
  else if (key === '-') container.push(value);
  else if (isIndex(key, container.length)) container[Number(key)] = value;
}

function isIndex(key: string, length: number): boolean {
  return /^(?:0|[1-9]\d{0,9})$/.test(key) && Number(key) < length;
}

/** A field of this object and no other, even where it is called `__proto__`. */
function define(container: object, key: string, value: unknown): void {
  Object.defineProperty(container, key, { value, writable: true, enumerable: true, configurable: true });
}

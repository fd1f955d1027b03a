// Holds the plain config against the schema: fills numbers from references, reports every mistake, and leaves only what is sound.
import type { ErrorObject } from 'ajv';
import { configValidator } from './config-validator.ts';
import type { Json, Origin, Origins } from './origins.ts';
import type { Problem } from './problem.ts';
import { shapeProblems, stepsOf } from './shape-problems.ts';

/** Each round takes out at least one level of what is unsound; no config nests deeper. */
const MAX_ROUNDS = 24;

/** Mutates `config`: afterwards it fits the schema, without the parts that are reported. Null: nothing of it does. */
export function validate(config: unknown, origins: Origins): { config: Json | null; problems: Problem[] } {
  const check = configValidator();
  if (!check(config) && coerce(config, check.errors ?? [], origins)) check(config);
  const problems = (check.errors ?? []).length === 0 ? [] : toProblems(config, check.errors ?? [], origins);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    // Reported by now when it was missing or wrong; what else is wrong is still worth knowing.
    if (typeof config === 'object' && config !== null && !('version' in config)) (config as Json).version = 1;
    if (check(config)) return { config: config as Json, problems };
    if (!prune(config, check.errors ?? [], origins)) break;
  }
  return { config: null, problems };
}

/** A reference always yields text: `port: ${PORT}`. Where the schema wants a number or a boolean and the text is one, it becomes it. */
function coerce(config: unknown, errors: readonly ErrorObject[], origins: Origins): boolean {
  let changed = false;
  for (const { keyword, params, instancePath, data } of errors) {
    if ((keyword !== 'type' && keyword !== 'const') || typeof data !== 'string') continue;
    const found = locate(config, stepsOf(instancePath));
    const origin = found === null ? undefined : origins.child(found.container, found.key);
    if (found === null || origin === undefined || !isReference(origin)) continue;
    const wanted = keyword === 'const' ? typeof params.allowedValue : String(params.type);
    const value = fromText(data, wanted);
    if (value === undefined) continue;
    (found.container as Json)[found.key] = value;
    changed = true;
  }
  return changed;
}

function isReference({ variables, secret }: Origin): boolean {
  return variables.length > 0 || secret;
}

function fromText(text: string, type: string): number | boolean | undefined {
  if ((type === 'integer' || type === 'number') && /^-?\d+(?:\.\d+)?$/.test(text.trim())) return Number(text);
  return type === 'boolean' && (text === 'true' || text === 'false') ? text === 'true' : undefined;
}

function toProblems(config: unknown, errors: readonly ErrorObject[], origins: Origins): Problem[] {
  const problems = new Map<string, Problem>();
  for (const { steps, atKey, message } of shapeProblems(errors)) {
    const origin = originAt(config, steps, origins);
    const place = (atKey ? origin?.keyPlace : origin?.place) ?? null;
    const path = origin?.path ?? steps.join('.');
    problems.set(`${path}\0${message}`, { severity: 'error', place, path, message });
  }
  return [...problems.values()];
}

/** Takes out the values at fault; where something is missing, the map that misses it. True when anything was left to take. */
function prune(config: unknown, errors: readonly ErrorObject[], origins: Origins): boolean {
  const doomed = new Map<object, Set<string>>();
  for (const { steps } of shapeProblems(errors)) {
    const found = locate(config, steps);
    if (found === null) continue;
    const keys = doomed.get(found.container) ?? new Set();
    doomed.set(found.container, keys.add(found.key));
  }
  for (const [container, keys] of doomed) {
    // From the end, so that earlier list indexes stay what they are.
    for (const key of [...keys].sort((a, b) => Number(b) - Number(a))) origins.remove(container, key);
  }
  return doomed.size > 0;
}

function originAt(config: unknown, steps: readonly string[], origins: Origins): Origin | undefined {
  const found = locate(config, steps);
  return found === null ? origins.of(config as object) : origins.child(found.container, found.key);
}

function locate(config: unknown, steps: readonly string[]): { container: object; key: string } | null {
  let container = config;
  for (const step of steps.slice(0, -1)) container = (container as Json | undefined)?.[step];
  const key = steps[steps.length - 1];
  return key === undefined || typeof container !== 'object' || container === null ? null : { container, key };
}

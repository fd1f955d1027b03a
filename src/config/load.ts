// From a path or an object to the config that runs, or to everything that is wrong with it. Nothing is half-applied.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { RoleSelection } from './addresses.ts';
import type { Clock } from './certificates.ts';
import type { CompleteConfig } from './complete.ts';
import { Cursor, type Findings } from './cursor.ts';
import { fillDefaults } from './defaults.ts';
import type { ConfigInput } from './define.ts';
import { freeze } from './freeze.ts';
import { knownNames } from './known-names.ts';
import { type KnownRoutes, type LoadMemory, resolvedOf, secretRoutes } from './load-memory.ts';
import { merge } from './merge.ts';
import type { Config } from './model.ts';
import { type Json, Origins } from './origins.ts';
import { hasErrors, inOrder, type Problem } from './problem.ts';
import { Provenance } from './provenance.ts';
import { type FilesResult, readPath } from './read-files.ts';
import { readObject } from './read-module.ts';
import { resolveConfig as resolveComplete } from './resolve.ts';
import { ConfigSchema } from './schema.ts';
import { secretsOf } from './secrets.ts';
import { checkSemantics, checkUnused } from './semantics.ts';
import { expandShorthand } from './shorthand.ts';
import type { SubstitutionContext } from './substitute.ts';
import type { Dict } from './tree.ts';
import { refuseUnsupported } from './unsupported.ts';
import { validate } from './validate.ts';

export type { RoleSelection } from './addresses.ts';
export { Provenance } from './provenance.ts';

export interface LoadOptions {
  /** For `${NAME}`; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Folder that relative paths start from; default the process's. */
  readonly cwd?: string;
  /** The roles that one process runs: only their addresses can collide. Default all of them. */
  readonly roles?: RoleSelection | null;
  /** For the dates of certificates; default the system's clock. */
  readonly clock?: Clock;
  /** The config is for another thread, which freezes what arrives. */
  readonly leaves?: boolean;
  /** Of the loads of this path before; with `leaves` only: what it keeps is in no hands but its own. */
  readonly memory?: LoadMemory;
}

export interface LoadResult {
  /** Null when any problem is an error. */
  readonly config: Config | null;
  /** What could be understood in spite of errors, for further checks; never to be run. Null: nothing. */
  readonly understood: Config | null;
  readonly problems: readonly Problem[];
  /** Absolute paths of everything that was read or would have been: what a watcher must watch. */
  readonly files: readonly string[];
  /** Null when the config could not be understood at all. */
  readonly provenance: Provenance | null;
}

/** Tried in this order. */
export const CONFIG_PATHS = ['selvedge.yaml', 'selvedge.config.ts', 'config'] as const;

/** The config that a folder holds, as an absolute path; null when it holds none. */
export function findConfig(cwd: string): string | null {
  const found = CONFIG_PATHS.find((path) => existsSync(resolve(cwd, path)));
  return found === undefined ? null : resolve(cwd, found);
}

/** Reads a file, or the directory of files, that `path` names. Never rejects for what a user wrote. */
export async function loadConfig(path: string, options: LoadOptions = {}): Promise<LoadResult> {
  const cwd = options.cwd ?? process.cwd();
  return load((context) => readPath(resolve(cwd, path), cwd, context), options);
}

/**
 * The same for a config that is an object already. Relative paths in it start from `cwd`; `name` is what messages call it.
 */
export async function resolveConfig(
  input: ConfigInput,
  options: LoadOptions & { readonly name?: string } = {},
): Promise<LoadResult> {
  const file = { display: options.name ?? '(config)', dir: options.cwd ?? process.cwd() };
  return load(async (context) => ({ ...readObject(input, file, context), incomplete: false }), options);
}

async function load(
  read: (context: Omit<SubstitutionContext, 'dir'>) => Promise<FilesResult>,
  options: LoadOptions,
): Promise<LoadResult> {
  const files = new Set<string>();
  const { env = process.env, memory } = options;
  const source = await read({ env, sawFile: (path) => files.add(path), earlier: memory?.begin() });
  const merged = merge(source.trees);
  const problems = [...source.problems, ...merged.problems];
  if (merged.tree === null) return nothingOf(problems, files);
  const sources = { tree: merged.tree, problems, files, partial: source.incomplete || merged.incomplete };
  const known = problems.length > 0 ? null : memory?.recall(merged.tree);
  // What is wrong is found by looking at everything.
  return (known && understand(sources, options, known)) ?? (understand(sources, options, []) as LoadResult);
}

interface Sources {
  readonly tree: Dict;
  readonly problems: readonly Problem[];
  readonly files: Set<string>;
  /** Some of what was written is not in the tree. */
  readonly partial: boolean;
}

/** Null: with `known` routes left out something does not fit the schema. */
function understand(sources: Sources, options: LoadOptions, known: KnownRoutes): LoadResult | null {
  const { tree, files, partial } = sources;
  const problems = [...sources.problems];
  const origins = new Origins(known);
  const written = origins.plain(tree);
  const routes = (written as Json).routes as unknown[];
  if (known.length > 0) (written as Json).routes = origins.some(routes, (index) => known[index] === null);
  const secrets = secretsOf(written, ConfigSchema, origins.secrets);
  const isRemembered = options.memory !== undefined && Array.isArray(routes);
  const secret = isRemembered && secrets.texts.length > 0 ? secretRoutes(routes, known) : NO_INDEXES;
  const names = knownNames(written);
  problems.push(...origins.faults);
  problems.push(...unheard(refuseUnsupported(written, origins), problems));
  const valid = validate(written, origins);
  problems.push(...unheard(valid.problems, problems));
  if (known.length > 0 && problems.length > 0) return null;
  if (valid.config === null)
    return nothingOf(
      problems.map((problem) => secrets.scrubProblem(problem)),
      files,
    );

  expandShorthand(valid.config, origins);
  fillDefaults(ConfigSchema, valid.config);
  if (known.length > 0) valid.config.routes = routes;
  const findings: Findings = { origins, problems: [], files, named: 0 };
  const { place, file } = tree.source;
  const cursor = new Cursor(valid.config as CompleteConfig, { path: '', place, keyPlace: place, file }, findings);
  const resolved = resolvedOf(known);
  const complete = resolveComplete(cursor, options.cwd ?? process.cwd(), options.clock ?? Date, resolved);
  const config = options.leaves === true ? complete : freeze(complete);
  checkSemantics(cursor, config, { names, incomplete: partial, roles: options.roles ?? null });
  problems.push(...unheard(findings.problems, problems));
  findings.problems.length = 0;
  if (!partial && !hasErrors(problems)) {
    checkUnused(cursor, config);
    problems.push(...findings.problems);
  }
  const isSound = !hasErrors(problems);
  if (isSound && isRemembered) options.memory?.keep({ tree, routes, resolved, known, secret });
  return {
    config: isSound ? config : null,
    understood: config,
    problems: inOrder(problems.map((problem) => secrets.scrubProblem(problem))),
    files: [...files],
    provenance: new Provenance(valid.config, origins, secrets),
  };
}

const NO_INDEXES: ReadonlySet<number> = new Set();

function nothingOf(problems: readonly Problem[], files: ReadonlySet<string>): LoadResult {
  return { config: null, understood: null, problems: inOrder(problems), files: [...files], provenance: null };
}

/** What is not just the consequence of a mistake that was reported already: at that very place, or because of what it took away. */
function unheard(found: readonly Problem[], before: readonly Problem[]): Problem[] {
  const touched = new Set<string>();
  for (const { severity, path } of before) {
    if (severity === 'error') for (let part = path; part !== ''; part = parentOf(part)) touched.add(part);
  }
  return found.filter(({ path }) => !touched.has(path));
}

/** `routes[3].to[0]` → `routes[3].to`. */
function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('.'), path.lastIndexOf('['), 0));
}

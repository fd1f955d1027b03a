// From a path to trees: one file, or every config file of a directory by name. Broken files are reported, the others still read.
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import type { Problem } from './problem.ts';
import { readModule } from './read-module.ts';
import { readYaml } from './read-yaml.ts';
import { reasonOf, type SubstitutionContext } from './substitute.ts';
import { type ReadResult, sourceFile, type Tree, wholeFile } from './tree.ts';

export interface FilesResult {
  /** In the order of file names, then of documents. */
  readonly trees: readonly Tree[];
  readonly problems: readonly Problem[];
  /** Some file could not be read, so names that it may define are unknown. */
  readonly incomplete: boolean;
}

/** Bytes of one config file; past it, it is data and not a config. 10,000 routes take about 2 MiB. */
export const MAX_FILE = 8 * 1024 * 1024;
/** Files of one directory. */
const MAX_FILES = 1_000;

const TEXT = new Set(['.yaml', '.yml', '.json']);
const MODULES = new Set(['.ts', '.mts', '.js', '.mjs']);

export async function readPath(
  path: string,
  cwd: string,
  context: Omit<SubstitutionContext, 'dir'>,
): Promise<FilesResult> {
  const file = sourceFile(path, cwd);
  const refuse = (message: string): FilesResult => ({
    trees: [],
    problems: [{ severity: 'error', place: wholeFile(file), path: '', message }],
    incomplete: true,
  });
  context.sawFile(path);
  let paths: readonly string[];
  try {
    paths = await configFiles(path);
  } catch (error) {
    return refuse(`cannot be read: ${reasonOf(error)}`);
  }
  if (paths.length === 0)
    return refuse('holds no config: no .yaml, .yml, .json or .config.ts file lies in this directory');
  if (paths.length > MAX_FILES) return refuse(`holds more than ${MAX_FILES} config files`);
  return readFiles(paths, cwd, context);
}

/** The files of the config at `path`: it alone, or those in the directory that it is. Rejects where nothing can be read. */
export async function configFiles(path: string): Promise<readonly string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  return (await readdir(path))
    .filter(isConfigFile)
    .sort()
    .map((name) => join(path, name));
}

/** Whether a config file is code. */
export function isModule(path: string): boolean {
  return MODULES.has(extname(path));
}

/** In a directory only names that say so are code: its plugins may lie beside it. Dot files are what editors and mounts leave. */
function isConfigFile(name: string): boolean {
  if (name.startsWith('.') || name.endsWith('.schema.json')) return false;
  return TEXT.has(extname(name)) || (isModule(name) && extname(basename(name, extname(name))) === '.config');
}

async function readFiles(
  paths: readonly string[],
  cwd: string,
  context: Omit<SubstitutionContext, 'dir'>,
): Promise<FilesResult> {
  const trees: Tree[] = [];
  const problems: Problem[] = [];
  const empty: Problem[] = [];
  let incomplete = false;
  for (const path of paths) {
    context.sawFile(path);
    const result = await readOne(path, cwd, context);
    trees.push(...result.trees);
    problems.push(...result.problems);
    incomplete ||= result.trees.length === 0 && result.problems.length > 0;
    if (result.trees.length === 0 && result.problems.length === 0) {
      empty.push({ severity: 'warning', place: wholeFile(sourceFile(path, cwd)), path: '', message: 'is empty' });
    }
  }
  if (trees.length === 0 && problems.length === 0) {
    const message = 'an empty config is invalid: "selvedge init" writes one to start from';
    return { trees, problems: empty.map((problem) => ({ ...problem, severity: 'error', message })), incomplete: true };
  }
  return { trees, problems: [...problems, ...empty], incomplete };
}

async function readOne(path: string, cwd: string, context: Omit<SubstitutionContext, 'dir'>): Promise<ReadResult> {
  const file = sourceFile(path, cwd);
  const refuse = (message: string): ReadResult => ({
    trees: [],
    problems: [{ severity: 'error', place: wholeFile(file), path: '', message }],
  });
  try {
    const found = await stat(path);
    if (!found.isFile()) return refuse('is not a regular file');
    if (isModule(path)) return await readModule(path, file, context);
    if (!TEXT.has(extname(path)))
      return refuse('is no config: its name must end in .yaml, .yml, .json, .ts, .mts, .js or .mjs');
    if (found.size > MAX_FILE) return refuse(`is larger than ${MAX_FILE / 1024 / 1024} MiB, more than a config may be`);
    return await readYaml(new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path)), file, context);
  } catch (error) {
    return refuse(`cannot be read: ${reasonOf(error)}`);
  }
}

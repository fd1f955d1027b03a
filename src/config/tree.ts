// What a config file says, before it means anything: values that know where they were written. Readers make it, merge joins it.
import { dirname, isAbsolute, relative, sep } from 'node:path';
import type { Place } from './model.ts';
import type { Problem } from './problem.ts';

export interface SourceFile {
  /** As messages write it: relative to the working directory when it lies below. */
  readonly display: string;
  /** Folder that relative paths in this file start from. */
  readonly dir: string;
}

export interface Source {
  readonly place: Place;
  readonly file: SourceFile;
  /** Environment variables that the value was made of. */
  readonly variables: readonly string[];
  /** The value contains a file's content or a variable whose name says that it is secret: never shown. */
  readonly secret: boolean;
  /** What is wrong with its `${…}` references. */
  readonly faults: readonly string[];
}

export interface Leaf {
  readonly kind: 'leaf';
  /** A scalar; in a TypeScript config also a function or an instance, which only plugin options may hold. */
  readonly value: unknown;
  readonly source: Source;
}

export interface List {
  readonly kind: 'list';
  readonly items: readonly Tree[];
  readonly source: Source;
}

export interface Dict {
  readonly kind: 'dict';
  readonly entries: ReadonlyMap<string, Entry>;
  readonly source: Source;
}

export interface Entry {
  readonly keyPlace: Place;
  readonly value: Tree;
}

export type Tree = Leaf | List | Dict;

/** What one file says. */
export interface ReadResult {
  /** One a document; none where the file is broken. */
  readonly trees: readonly Tree[];
  readonly problems: readonly Problem[];
}

/** Deeper than any config; what nests deeper is an attack or an accident, and would overflow the stack. */
export const MAX_DEPTH = 64;

/** Of a value without references. */
export function plainSource(place: Place, file: SourceFile): Source {
  return { place, file, variables: NONE, secret: false, faults: NONE };
}

const NONE: readonly string[] = Object.freeze([]);

export function sourceFile(path: string, cwd: string): SourceFile {
  const fromHere = relative(cwd, path);
  const below = fromHere !== '' && fromHere !== '..' && !fromHere.startsWith(`..${sep}`) && !isAbsolute(fromHere);
  return { display: below ? fromHere : path, dir: dirname(path) };
}

export function wholeFile(file: SourceFile): Place {
  return { file: file.display, line: 0, column: 0 };
}

/** Whether two trees say the same in the same order, and come from the same variables; with `placed`, at the same place too. */
export function sameTree(a: Tree, b: Tree, placed: boolean): boolean {
  if (a === b) return true;
  if (!sameSource(a.source, b.source) || (placed && !samePlace(a.source.place, b.source.place))) return false;
  if (a.kind === 'leaf') return b.kind === 'leaf' && Object.is(a.value, b.value);
  if (a.kind === 'list')
    return (
      b.kind === 'list' &&
      a.items.length === b.items.length &&
      a.items.every((item, index) => sameTree(item, b.items[index], placed))
    );
  return b.kind === 'dict' && sameEntries(a.entries, b.entries, placed);
}

function sameEntries(a: Dict['entries'], b: Dict['entries'], placed: boolean): boolean {
  if (a.size !== b.size) return false;
  const others = b.entries();
  for (const [name, { keyPlace, value }] of a) {
    const [otherName, other] = others.next().value as [string, Entry];
    if (name !== otherName || (placed && !samePlace(keyPlace, other.keyPlace))) return false;
    if (!sameTree(value, other.value, placed)) return false;
  }
  return true;
}

function sameSource(a: Source, b: Source): boolean {
  return (
    a.file.display === b.file.display &&
    a.file.dir === b.file.dir &&
    a.secret === b.secret &&
    sameTexts(a.variables, b.variables) &&
    sameTexts(a.faults, b.faults)
  );
}

function samePlace(a: Place, b: Place): boolean {
  return a.line === b.line && a.column === b.column && a.file === b.file;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, index) => text === b[index]);
}

/** Nothing in it comes from a variable or a file. */
export function isOfText(tree: Tree): boolean {
  const { variables, secret, faults } = tree.source;
  if (variables.length > 0 || secret || faults.length > 0) return false;
  if (tree.kind === 'leaf') return true;
  if (tree.kind === 'list') return tree.items.every(isOfText);
  for (const { value } of tree.entries.values()) if (!isOfText(value)) return false;
  return true;
}

// Reads one YAML or JSON file into trees, one per document: every syntax error, every value with its line and column.
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import type { Place } from './model.ts';
import type { Problem } from './problem.ts';
import { type SubstitutionContext, substitute } from './substitute.ts';
import { type Entry, MAX_DEPTH, type Source, type SourceFile, type Tree, wholeFile } from './tree.ts';

export interface ReadResult {
  /** One a document; none where the file is broken. */
  readonly trees: readonly Tree[];
  readonly problems: readonly Problem[];
}

/** Values that aliases of one file may stand for: `&a [*b, *b]` doubles with every line ("billion laughs"). */
const MAX_ALIASED = 100_000;
/** Syntax errors reported a file; what follows the first ones is mostly their echo. */
const MAX_SYNTAX_ERRORS = 20;

export function readYaml(text: string, file: SourceFile, context: Omit<SubstitutionContext, 'dir'>): ReadResult {
  const isJson = file.display.endsWith('.json');
  const lines = new LineCounter();
  const problems: Problem[] = [];
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file: file.display, line, column: col };
  };
  const report = (at: Place, message: string): void => {
    problems.push({ severity: 'error', place: at, path: '', message });
  };

  let documents: readonly Document[];
  try {
    // JSON indents with tabs, YAML never does; a space keeps the columns.
    const source = isJson ? text.replace(/^[\t ]+/gm, (indent) => ' '.repeat(indent.length)) : text;
    documents = [
      ...parseAllDocuments(hideReferences(source), {
        lineCounter: lines,
        uniqueKeys: false,
        prettyErrors: false,
        stringKeys: true,
        logLevel: 'silent',
      }),
    ];
  } catch (error) {
    report(
      wholeFile(file),
      error instanceof RangeError ? `nested more than ${MAX_DEPTH} deep` : showReferences((error as Error).message),
    );
    return { trees: [], problems };
  }

  const seenLines = new Set<number>();
  for (const { pos, code, message } of documents.flatMap((document) => [...document.errors, ...document.warnings])) {
    const at = place(pos[0]);
    if (seenLines.has(at.line) || problems.length >= MAX_SYNTAX_ERRORS) continue;
    seenLines.add(at.line);
    report(at, syntaxMessage(code, message, isJson));
  }
  if (problems.length > 0) return { trees: [], problems };

  const reader = new TreeReader(file, { ...context, dir: file.dir }, place, report);
  const trees: Tree[] = [];
  for (const document of documents) {
    const tree = reader.document(document);
    if (tree !== null) trees.push(tree);
  }
  return { trees: reader.refused ? [] : trees, problems };
}

function syntaxMessage(code: string, message: string, isJson: boolean): string {
  if (code === 'TAB_AS_INDENT') return 'a tab cannot indent YAML: use spaces';
  const text = showReferences(message).replace(/\s+/g, ' ').trim();
  return `not valid ${isJson ? 'JSON' : 'YAML'}: ${text.charAt(0).toLowerCase()}${text.slice(1)}`;
}

/** Turns the nodes of one file into trees. Keeps count of what aliases multiply. */
class TreeReader {
  readonly #file: SourceFile;
  readonly #context: SubstitutionContext;
  readonly #place: (offset: number) => Place;
  readonly #report: (at: Place, message: string) => void;
  #aliased = 0;
  #inAlias = 0;
  /** A document could not be taken whole. */
  refused = false;

  constructor(
    file: SourceFile,
    context: SubstitutionContext,
    place: (offset: number) => Place,
    report: (at: Place, message: string) => void,
  ) {
    this.#file = file;
    this.#context = context;
    this.#place = place;
    this.#report = report;
  }

  /** Null for an empty document and for one that aliases blow up. */
  document(document: Document): Tree | null {
    const root = document.contents as Node | null;
    if (root === null || (isScalar(root) && root.value === null)) return null;
    try {
      return this.#read(root, document, 0);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#report(error.at, error.message);
      this.refused = true;
      return null;
    }
  }

  #read(node: Node | null, document: Document, depth: number): Tree {
    const at = this.#place(node?.range?.[0] ?? 0);
    if (depth > MAX_DEPTH) throw new Refusal(at, `nested more than ${MAX_DEPTH} deep`);
    if (this.#inAlias > 0 && ++this.#aliased > MAX_ALIASED) {
      throw new Refusal(at, `its aliases stand for more than ${MAX_ALIASED} values`);
    }
    if (isAlias(node)) {
      const target = node.resolve(document);
      if (target === undefined) throw new Refusal(at, `no anchor "&${node.source}" stands before this alias`);
      this.#inAlias++;
      const tree = this.#read(target, document, depth + 1);
      this.#inAlias--;
      return tree;
    }
    if (isMap(node)) return { kind: 'dict', entries: this.#entries(node, document, depth), source: this.#source(at) };
    if (isSeq(node)) {
      return {
        kind: 'list',
        items: (node as YAMLSeq<Node>).items.map((item) => this.#read(item, document, depth + 1)),
        source: this.#source(at),
      };
    }
    return this.#scalar(isScalar(node) ? node.value : null, at);
  }

  #scalar(value: unknown, at: Place): Tree {
    if (typeof value !== 'string') return { kind: 'leaf', value, source: this.#source(at) };
    const { text, variables, secret, problems } = substitute(showReferences(value), this.#context);
    return { kind: 'leaf', value: text, source: { place: at, file: this.#file, variables, secret, faults: problems } };
  }

  #entries(map: YAMLMap, document: Document, depth: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    const merged: Tree[] = [];
    for (const pair of map.items as Pair<Node, Node | null>[]) {
      const key = isAlias(pair.key) ? pair.key.resolve(document) : pair.key;
      const keyPlace = this.#place(pair.key.range?.[0] ?? 0);
      if (!isScalar(key)) throw new Refusal(keyPlace, 'a key must be plain text');
      const name = showReferences(String(key.value));
      const value = this.#read(pair.value, document, depth + 1);
      if (name === '<<') merged.push(...(value.kind === 'list' ? value.items : [value]));
      else if (entries.has(name))
        this.#report(keyPlace, `"${name}" is set twice, first at ${lineOf(entries.get(name) as Entry)}`);
      // An empty value has no place of its own.
      else
        entries.set(name, {
          keyPlace,
          value: pair.value === null ? { kind: 'leaf', value: null, source: this.#source(keyPlace) } : value,
        });
    }
    for (const base of merged) {
      if (base.kind !== 'dict') throw new Refusal(base.source.place, '"<<" merges maps only');
      for (const [name, entry] of base.entries) if (!entries.has(name)) entries.set(name, entry);
    }
    return entries;
  }

  #source(place: Place): Source {
    return { place, file: this.#file, variables: [], secret: false, faults: [] };
  }
}

class Refusal extends Error {
  readonly at: Place;

  constructor(at: Place, message: string) {
    super(message);
    this.at = at;
  }
}

function lineOf({ keyPlace }: Entry): string {
  return `${keyPlace.file}:${keyPlace.line}:${keyPlace.column}`;
}

/**
 * YAML reads the braces of `{ port: ${PORT} }` as a map. So inside a reference the characters with a meaning in flow collections are
 * swapped for private-use ones of the same length before parsing (positions stay), and swapped back in every string that comes out.
 */
function hideReferences(text: string): string {
  if (!text.includes('${') || HIDDEN.test(text)) return text;
  return text.replace(/\$\{[^}\n]*\}/g, (reference) =>
    reference.replace(/[{}[\],:#]/g, (char) => String.fromCharCode(char.charCodeAt(0) + HIDDEN_BASE)),
  );
}

function showReferences(text: string): string {
  return HIDDEN.test(text)
    ? text.replace(HIDDEN_ALL, (char) => String.fromCharCode(char.charCodeAt(0) - HIDDEN_BASE))
    : text;
}

const HIDDEN_BASE = 0xf700;
const HIDDEN = /[\uf723\uf72c\uf73a\uf75b\uf75d\uf77b\uf77d]/;
const HIDDEN_ALL = new RegExp(HIDDEN, 'g');

// Reads all of YAML, and finds every syntax error: for files that the plain reader leaves alone. Loaded when it is needed: it is large.
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
import { formatPlace, type Problem } from './problem.ts';
import type { YamlReading } from './read-plain-yaml.ts';
import { type Entry, MAX_DEPTH, plainSource, type ReadResult, type Source, type Tree, wholeFile } from './tree.ts';

/** Values that aliases of one file may stand for: `&a [*b, *b]` doubles with every line ("billion laughs"). */
const MAX_ALIASED = 100_000;
/** Syntax errors reported a file; what follows the first ones is mostly their echo. */
const MAX_SYNTAX_ERRORS = 20;

/** `source` with its references shielded; see `YamlReading`. */
export function readAnyYaml(source: string, reading: YamlReading): ReadResult {
  const { file, show } = reading;
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
    documents = [
      ...parseAllDocuments(source, {
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
      error instanceof RangeError ? `nested more than ${MAX_DEPTH} deep` : show((error as Error).message),
    );
    return { trees: [], problems };
  }

  const seenLines = new Set<number>();
  for (const { pos, code, message } of documents.flatMap((document) => [...document.errors, ...document.warnings])) {
    const at = place(pos[0]);
    if (seenLines.has(at.line) || problems.length >= MAX_SYNTAX_ERRORS) continue;
    seenLines.add(at.line);
    report(at, syntaxMessage(code, show(message), file.display.endsWith('.json')));
  }
  if (problems.length > 0) return { trees: [], problems };

  const reader = new TreeReader({ ...reading, place, report });
  const trees: Tree[] = [];
  for (const document of documents) {
    const tree = reader.document(document);
    if (tree !== null) trees.push(tree);
  }
  return { trees: reader.refused ? [] : trees, problems };
}

function syntaxMessage(code: string, message: string, isJson: boolean): string {
  if (message.includes('call stack')) return `nested more than ${MAX_DEPTH} deep`;
  if (code === 'TAB_AS_INDENT') return 'a tab cannot indent YAML: use spaces';
  const text = message.replace(/\s+/g, ' ').trim();
  return `not valid ${isJson ? 'JSON' : 'YAML'}: ${text.charAt(0).toLowerCase()}${text.slice(1)}`;
}

interface Reading extends YamlReading {
  readonly place: (offset: number) => Place;
  readonly report: (at: Place, message: string) => void;
}

/** Turns the nodes of one file into trees. Keeps count of what aliases multiply. */
class TreeReader {
  readonly #reading: Reading;
  /** Of the document so far. Not yaml's own `resolve`, which walks the whole document for every alias. */
  #anchors = new Map<string, Node>();
  #aliased = 0;
  #inAlias = 0;
  /** A document could not be taken whole. */
  refused = false;

  constructor(reading: Reading) {
    this.#reading = reading;
  }

  /** Null for an empty document and for one that aliases blow up. */
  document(document: Document): Tree | null {
    const root = document.contents as Node | null;
    if (root === null || (isScalar(root) && root.value === null)) return null;
    this.#anchors.clear();
    try {
      return this.#read(root, 0);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#reading.report(error.at, error.message);
      this.refused = true;
      return null;
    }
  }

  #read(node: Node | null, depth: number): Tree {
    const at = this.#reading.place(node?.range?.[0] ?? 0);
    if (depth > MAX_DEPTH) throw new Refusal(at, `nested more than ${MAX_DEPTH} deep`);
    if (this.#inAlias > 0 && ++this.#aliased > MAX_ALIASED) {
      throw new Refusal(at, `its aliases stand for more than ${MAX_ALIASED} values`);
    }
    if (this.#inAlias === 0 && node !== null && !isAlias(node) && node.anchor !== undefined)
      this.#anchors.set(node.anchor, node);
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target === undefined) throw new Refusal(at, `no anchor "&${node.source}" stands before this alias`);
      this.#inAlias++;
      const tree = this.#read(target, depth + 1);
      this.#inAlias--;
      return tree;
    }
    if (isMap(node)) return { kind: 'dict', entries: this.#entries(node, depth), source: this.#source(at) };
    if (isSeq(node)) {
      return {
        kind: 'list',
        items: (node as YAMLSeq<Node>).items.map((item) => this.#read(item, depth + 1)),
        source: this.#source(at),
      };
    }
    return this.#reading.leaf(isScalar(node) ? node.value : null, at);
  }

  #entries(map: YAMLMap, depth: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    const merged: Tree[] = [];
    for (const pair of map.items as Pair<Node, Node | null>[]) {
      const key = isAlias(pair.key) ? this.#anchors.get(pair.key.source) : pair.key;
      const keyPlace = this.#reading.place(pair.key.range?.[0] ?? 0);
      if (!isScalar(key)) throw new Refusal(keyPlace, 'a key must be plain text');
      const name = this.#reading.show(String(key.value));
      const value = this.#read(pair.value, depth + 1);
      if (name === '<<') merged.push(...(value.kind === 'list' ? value.items : [value]));
      else if (entries.has(name))
        this.#reading.report(
          keyPlace,
          `"${name}" is set twice, first at ${formatPlace((entries.get(name) as Entry).keyPlace)}`,
        );
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
    return plainSource(place, this.#reading.file);
  }
}

class Refusal extends Error {
  readonly at: Place;

  constructor(at: Place, message: string) {
    super(message);
    this.at = at;
  }
}

// Reads the YAML that configs are nearly always written in, ten times as fast as a parser that knows all of YAML. What it does not know
// for certain it does not guess: then `null`, and the whole file is for the full parser, which also has the words for what is wrong.
import { addItem, type ItemsRead, nextItem, type ReadItem, takeItem } from './items-read.ts';
import type { Place } from './model.ts';
import { type Dict, type Entry, MAX_DEPTH, plainSource, type SourceFile, type Tree } from './tree.ts';

/** What this reader and the full parser do alike. */
export interface YamlReading {
  readonly file: SourceFile;
  readonly leaf: (value: unknown, at: Place) => Tree;
  /** Undoes the shielding of references. */
  readonly show: (text: string) => string;
  /** Routes of the reading before, and those of this one. */
  readonly known?: ItemsRead;
  readonly read?: ItemsRead;
}

/** Block and flow maps and lists, scalars of one line, comments; one document. */
export function readPlainYaml(text: string, reading: YamlReading): Tree | null {
  if (UNUSUAL_TEXT.test(text)) return null;
  try {
    return new PlainParser(text, reading).document();
  } catch (error) {
    if (error === UNKNOWN) return null;
    throw error;
  }
}

const UNKNOWN = Symbol('for the full parser');

/** Control characters, line ends beyond `\n`, document markers, directives. */
const UNUSUAL_TEXT = /[^\n\x20-\x7e\u00a1-\u2027\u202a-\ufdcf\ufdf0-\ufefe\uff00-\ufffd]|^(?:---|\.\.\.|%)/m;
/** Up to the colon that makes it a key. */
const PLAIN_KEY = /[A-Za-z0-9_./$][\w./$@*+-]{0,200}(?=:(?:[ \n]|$))/y;
const DOUBLE_QUOTED = /"(?:[^"\\\n]|\\["\\/bfnrtu])*"/y;
const SINGLE_QUOTED = /'(?:[^'\n]|'')*'/y;
/** No character that means something at the beginning of a value. */
const PLAIN_START = /[^\s,[\]{}#&*!|>'"%@`?:-]|-(?=[^\s,[\]{}])/y;
/** In a flow collection a plain scalar ends before these; which of `:` and `#` do depends on what stands beside them. */
const FLOW_STOP = /[\n,[\]{}]|:(?=[\s,[\]{}])| #/g;
const BLOCK_STOP = /\n| #/g;
/** Keys may be longer in YAML, but not much. */
const MAX_KEY = 500;

const WORDS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ...['true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['false', 'False', 'FALSE'].map((word) => [word, false] as const),
  ...['~', 'null', 'Null', 'NULL'].map((word) => [word, null] as const),
]);
const NUMBER_START = /^[-+]?(?:\d|\.[\dina])/i;
const ORDINARY_NUMBER = /^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,10})?$/;
/** Everything that YAML's core schema takes for a number, and a little more. */
const ANY_NUMBER = /^(?:0o[0-7]+|0x[\da-f]+|[-+]?(?:\.\d+|\d+\.?\d*)(?:e[-+]?\d+)?|[-+]?\.inf|\.nan)$/i;

/** The cursor stands on the next character that says anything: behind the end of a line that is in the next line that does. */
class PlainParser {
  readonly #text: string;
  readonly #reading: YamlReading;
  #at = 0;
  #line = 1;
  #lineStart = 0;
  #depth = 0;
  /** Key of the whole document. */
  #topKey = '';
  readonly #places: Place[] = [];

  constructor(text: string, reading: YamlReading) {
    this.#text = text;
    this.#reading = reading;
  }

  document(): Tree | null {
    this.#endLine();
    if (this.#atEnd()) return null;
    const isFlow = this.#char() === '{';
    const tree = isFlow ? this.#flow(-1) : this.#block(-1);
    if (isFlow) this.#endLine();
    if (!this.#atEnd()) throw UNKNOWN;
    return tree;
  }

  /** A map or list over several lines, indented by more than `above`. */
  #block(above: number): Tree {
    const indent = this.#column();
    if (indent <= above || ++this.#depth > MAX_DEPTH) throw UNKNOWN;
    const source = this.#source();
    const tree: Tree = this.#isItem()
      ? { kind: 'list', items: this.#items(indent), source }
      : { kind: 'dict', entries: this.#entries(indent), source };
    this.#depth--;
    return tree;
  }

  #items(indent: number): Tree[] {
    const items: Tree[] = [];
    const areRoutes = this.#depth === 2 && this.#topKey === 'routes';
    do items.push(areRoutes ? this.#route(indent) : this.#item(indent));
    while (this.#goesOn(indent) && this.#isItem());
    return items;
  }

  #item(indent: number): Tree {
    this.#at++;
    this.#spaces();
    if (!this.#lineEnds()) return this.#isItem() || this.#isKey() ? this.#block(indent) : this.#inline(indent);
    this.#endLine();
    return this.#block(indent);
  }

  /** An item that may be known from the reading before. */
  #route(indent: number): Tree {
    const { known, read } = this.#reading;
    const end = read === undefined ? null : nextItem(this.#text, this.#at, indent);
    // The last one ends with the list, and nobody knows by what.
    if (read === undefined || end === null) return this.#item(indent);
    const text = this.#text.slice(this.#at, end);
    const item = (known && takeItem(known, read, text, this.#line, indent)) ?? this.#itemOf(text, indent);
    if (item === null) return this.#item(indent);
    this.#at = end;
    this.#line += item.lines;
    this.#lineStart = end - indent;
    return item.tree;
  }

  /** Read as a text of its own: what is kept of it does not hold on to the whole file. Null: it ends elsewhere. */
  #itemOf(text: string, indent: number): ReadItem | null {
    const parser = new PlainParser(`${' '.repeat(indent)}${text}- `, this.#reading);
    const line = this.#line;
    const end = indent + text.length;
    parser.#at = indent;
    parser.#line = line;
    parser.#depth = this.#depth;
    const tree = parser.#item(indent);
    if (parser.#at !== end) return null;
    const own = parser.#text.slice(indent, end);
    const lines = parser.#line - line;
    const item = { text: own, tree, places: parser.#places, column: indent, line, lines, takenBy: null };
    if (this.#reading.read) addItem(this.#reading.read, item);
    return item;
  }

  #entries(indent: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    do {
      const keyPlace = this.#place();
      const name = this.#key(true);
      if (this.#depth === 1) this.#topKey = name;
      this.#spaces();
      this.#add(entries, name, keyPlace, this.#lineEnds() ? this.#below(indent) : this.#inline(indent));
    } while (this.#goesOn(indent));
    return entries;
  }

  /** What the lines below a key say. */
  #below(indent: number): Tree {
    const nothing = this.#place();
    this.#endLine();
    const column = this.#atEnd() ? -1 : this.#column();
    // A list may stand as far to the left as its key.
    if (column === indent && this.#isItem()) return this.#block(indent - 1);
    return column <= indent ? this.#reading.leaf(null, nothing) : this.#block(indent);
  }

  /** Whether another item or key of the block at `indent` comes. */
  #goesOn(indent: number): boolean {
    if (this.#atEnd()) return false;
    const column = this.#column();
    if (column > indent) throw UNKNOWN;
    return column === indent;
  }

  /** A value that begins in this line and, unless it is a flow collection, ends with it. */
  #inline(indent: number): Tree {
    const first = this.#char();
    const tree = first === '{' || first === '[' ? this.#flow(indent) : this.#scalar(BLOCK_STOP);
    this.#endLine();
    return tree;
  }

  #flow(indent: number): Tree {
    if (++this.#depth > MAX_DEPTH) throw UNKNOWN;
    const source = this.#source();
    const tree: Tree =
      this.#text[this.#at++] === '{'
        ? { kind: 'dict', entries: this.#flowEntries(indent), source }
        : { kind: 'list', items: this.#flowItems(indent), source };
    this.#at++;
    this.#depth--;
    return tree;
  }

  #flowEntries(indent: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (this.#gap(indent); this.#char() !== '}'; this.#comma(indent, '}')) this.#flowEntry(entries, indent, false);
    return entries;
  }

  #flowItems(indent: number): Tree[] {
    const items: Tree[] = [];
    for (this.#gap(indent); this.#char() !== ']'; this.#comma(indent, ']')) {
      if (!this.#isKey()) {
        items.push(this.#flowValue(indent));
        continue;
      }
      // `[cors: { … }]` is a list of maps with one key each.
      const source = this.#source();
      const entries = new Map<string, Entry>();
      this.#flowEntry(entries, indent, true);
      items.push({ kind: 'dict', entries, source });
    }
    return items;
  }

  #flowEntry(entries: Map<string, Entry>, indent: number, spaced: boolean): void {
    const keyPlace = this.#place();
    const name = this.#key(spaced);
    this.#gap(indent);
    this.#add(entries, name, keyPlace, this.#flowValue(indent));
  }

  #flowValue(indent: number): Tree {
    const first = this.#char();
    return first === '{' || first === '[' ? this.#flow(indent) : this.#scalar(FLOW_STOP);
  }

  #comma(indent: number, end: string): void {
    this.#gap(indent);
    if (this.#char() === ',') {
      this.#at++;
      this.#gap(indent);
    } else if (this.#char() !== end) throw UNKNOWN;
  }

  /** A flow collection goes over as many lines as it likes, to the right of the block that it is in. */
  #gap(indent: number): void {
    this.#spaces();
    if (!this.#lineEnds()) return;
    this.#endLine();
    if (this.#atEnd() || this.#column() <= indent) throw UNKNOWN;
  }

  #add(entries: Map<string, Entry>, name: string, keyPlace: Place, value: Tree): void {
    if (entries.has(name)) throw UNKNOWN;
    entries.set(name, { keyPlace, value });
  }

  #isItem(): boolean {
    return this.#char() === '-' && this.#spaceAt(this.#at + 1);
  }

  #isKey(): boolean {
    const first = this.#char();
    if (first !== '"' && first !== "'") return this.#match(PLAIN_KEY) !== null;
    const quoted = this.#match(first === '"' ? DOUBLE_QUOTED : SINGLE_QUOTED);
    return quoted !== null && this.#text[this.#at + quoted.length] === ':';
  }

  /** With its colon. `spaced`: something parts that from the value, as it need not behind a key in quotes in a flow map. */
  #key(spaced: boolean): string {
    const first = this.#char();
    const isQuoted = first === '"' || first === "'";
    const name = isQuoted ? this.#quoted(first) : this.#take(PLAIN_KEY);
    if (name === '<<' || name.length > MAX_KEY || this.#text[this.#at++] !== ':') throw UNKNOWN;
    if ((spaced || !isQuoted) && !this.#spaceAt(this.#at)) throw UNKNOWN;
    return this.#reading.show(name);
  }

  #scalar(stop: RegExp): Tree {
    const at = this.#place();
    const first = this.#char();
    return this.#reading.leaf(first === '"' || first === "'" ? this.#quoted(first) : this.#plain(stop), at);
  }

  #quoted(quote: string): string {
    const written = this.#take(quote === '"' ? DOUBLE_QUOTED : SINGLE_QUOTED);
    if (quote === "'") return written.slice(1, -1).replaceAll("''", "'");
    if (!written.includes('\\')) return written.slice(1, -1);
    try {
      return JSON.parse(written) as string;
    } catch {
      throw UNKNOWN;
    }
  }

  #plain(stop: RegExp): unknown {
    if (this.#match(PLAIN_START) === null) throw UNKNOWN;
    stop.lastIndex = this.#at;
    const end = stop.exec(this.#text)?.index ?? this.#text.length;
    const text = this.#text.slice(this.#at, end).trimEnd();
    this.#at += text.length;
    if (text.includes(': ') || text.endsWith(':')) throw UNKNOWN;
    if (WORDS.has(text)) return WORDS.get(text);
    if (!NUMBER_START.test(text)) return text;
    if (ORDINARY_NUMBER.test(text)) return Number(text);
    if (ANY_NUMBER.test(text)) throw UNKNOWN;
    return text;
  }

  /** To the next line that says anything. Nothing but a comment may come before the end of this one. */
  #endLine(): void {
    for (;;) {
      this.#spaces();
      if (this.#char() === '#') {
        if (this.#at > this.#lineStart && this.#text[this.#at - 1] !== ' ') throw UNKNOWN;
        const end = this.#text.indexOf('\n', this.#at);
        this.#at = end < 0 ? this.#text.length : end;
      }
      if (this.#text.charCodeAt(this.#at) !== 0x0a) break;
      this.#at++;
      this.#line++;
      this.#lineStart = this.#at;
    }
    if (!this.#atEnd() && this.#text.slice(this.#lineStart, this.#at).trim() !== '') throw UNKNOWN;
  }

  #spaces(): void {
    while (this.#text.charCodeAt(this.#at) === 0x20) this.#at++;
  }

  #spaceAt(at: number): boolean {
    const char = this.#text.charCodeAt(at);
    return char === 0x20 || char === 0x0a || Number.isNaN(char);
  }

  #lineEnds(): boolean {
    return this.#atEnd() || this.#char() === '\n' || this.#char() === '#';
  }

  #atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  #char(): string {
    return this.#text[this.#at] ?? '';
  }

  #column(): number {
    return this.#at - this.#lineStart;
  }

  #match(form: RegExp): string | null {
    form.lastIndex = this.#at;
    return form.exec(this.#text)?.[0] ?? null;
  }

  #take(form: RegExp): string {
    const text = this.#match(form);
    if (text === null) throw UNKNOWN;
    this.#at += text.length;
    return text;
  }

  #place(): Place {
    const place = { file: this.#reading.file.display, line: this.#line, column: this.#at - this.#lineStart + 1 };
    this.#places.push(place);
    return place;
  }

  #source(): Dict['source'] {
    return plainSource(this.#place(), this.#reading.file);
  }
}

// What the items of a long list in a file were read as: one that has the same text need not be read again, wherever it stands now.
import type { Place } from './model.ts';
import type { SourceFile, Tree } from './tree.ts';

/** One item, whose places move with it. */
export interface ReadItem {
  /** To the beginning of the next item. */
  readonly text: string;
  readonly tree: Tree;
  /** Of everything in the tree. */
  readonly places: readonly Place[];
  readonly column: number;
  /** Where it stands. */
  line: number;
  /** From there to the next item. */
  readonly lines: number;
  /** The reading that has it: a tree can stand in one place only. */
  takenBy: ItemsRead | null;
}

/** Of one reading of a file. */
export interface ItemsRead {
  readonly file: SourceFile;
  readonly items: Map<string, ReadItem>;
}

/** Where the next item begins of a list that stands so many columns to the right; null: there is none. */
export function nextItem(text: string, from: number, indent: number): number | null {
  const next = new RegExp(`\\n {${indent}}-[ \\n]`, 'g');
  next.lastIndex = from;
  const found = next.exec(text);
  return found === null ? null : found.index + 1 + indent;
}

/** The item that had this text in the reading before, at its new place; null: there was none, or it stands elsewhere in this reading too. */
export function takeItem(
  before: ItemsRead,
  now: ItemsRead,
  text: string,
  line: number,
  column: number,
): ReadItem | null {
  const item = before.items.get(text);
  if (item === undefined || item.column !== column || item.takenBy === now) return null;
  const moved = line - item.line;
  if (moved !== 0) for (const place of item.places as Mutable<Place>[]) place.line += moved;
  item.line = line;
  addItem(now, item);
  return item;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What a reference means a variable or a file says at the moment. */
export function addItem(now: ItemsRead, item: ReadItem): void {
  if (item.text.includes('$')) return;
  item.takenBy = now;
  now.items.set(item.text, item);
}

// What the items of a long list in a file were read as: one that has the same text in the same lines need not be read again.
import type { SourceFile, Tree } from './tree.ts';

export interface ReadItem {
  readonly tree: Tree;
  /** Where its text begins, and where that of the next item does. */
  readonly start: number;
  readonly end: number;
  readonly column: number;
  /** From the one to the other. */
  readonly lines: number;
}

/** Of one reading of a file. Keeps its text. */
export interface ItemsRead {
  readonly file: SourceFile;
  readonly text: string;
  /** By the line that they begin in. */
  readonly items: Map<number, ReadItem>;
}

/** The item that begins at `start`, where another one begins behind it as it did. */
export function knownItem(
  before: ItemsRead,
  now: ItemsRead,
  line: number,
  start: number,
  column: number,
): ReadItem | null {
  const item = before.items.get(line);
  if (item === undefined || item.column !== column || !sameFile(before.file, now.file)) return null;
  const end = start + item.end - item.start;
  const isSame = now.text.slice(start, end) === before.text.slice(item.start, item.end);
  return isSame && NEXT.test(now.text.slice(end, end + 2)) ? { ...item, start, end } : null;
}

const NEXT = /^-[ \n]$/;

/** What a reference means a variable or a file says at the moment. */
export function addItem({ text, items }: ItemsRead, line: number, item: ReadItem): void {
  if (!text.slice(item.start, item.end).includes('$')) items.set(line, item);
}

function sameFile(a: SourceFile, b: SourceFile): boolean {
  return a.display === b.display && a.dir === b.dir;
}

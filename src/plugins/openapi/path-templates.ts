// Finds the path of a document that a request's path fits: literal segments before templated ones, from the left.
import { normalizeWrittenPath } from '../../http/path.ts';
import { DocumentError } from './document.ts';

type Segment =
  | { readonly literal: string }
  | { readonly name: string; readonly before: string; readonly after: string };

interface Template<T> {
  readonly segments: readonly Segment[];
  readonly value: T;
}

export interface FoundPath<T> {
  readonly value: T;
  /** By name, as they stand in the path: escaped. */
  readonly parameters: ReadonlyMap<string, string>;
}

export class PathTemplates<T> {
  /** By number of segments, the most literal first. */
  readonly #templates = new Map<number, Template<T>[]>();

  /** @throws DocumentError */
  add(path: string, value: T, pointer: string): void {
    if (!path.startsWith('/')) throw new DocumentError('a path begins with a slash', pointer);
    const segments = path
      .slice(1)
      .split('/')
      .map((segment) => parse(segment, pointer));
    const list = this.#templates.get(segments.length) ?? [];
    list.push({ segments, value });
    list.sort((a, b) => compare(a.segments, b.segments));
    this.#templates.set(segments.length, list);
  }

  /** `path` is normalised. */
  find(path: string): FoundPath<T> | null {
    const parts = path.slice(1).split('/');
    for (const { segments, value } of this.#templates.get(parts.length) ?? []) {
      const parameters = new Map<string, string>();
      if (segments.every((segment, index) => fits(segment, parts[index], parameters))) return { value, parameters };
    }
    return null;
  }
}

function parse(segment: string, pointer: string): Segment {
  const found = /^([^{}]*)\{([^{}]+)\}([^{}]*)$/.exec(segment);
  if (found !== null) return { before: normal(found[1]), name: found[2], after: normal(found[3]) };
  if (/[{}]/.test(segment)) throw new DocumentError('at most one {parameter} in a segment of a path', pointer);
  return { literal: normal(segment) };
}

function normal(literal: string): string {
  return literal === '' ? '' : (normalizeWrittenPath(`/${literal}`)?.path.slice(1) ?? literal);
}

function fits(segment: Segment, part: string, parameters: Map<string, string>): boolean {
  if ('literal' in segment) return segment.literal === part;
  const { name, before, after } = segment;
  if (part.length <= before.length + after.length || !part.startsWith(before) || !part.endsWith(after)) return false;
  parameters.set(name, part.slice(before.length, part.length - after.length));
  return true;
}

function compare(a: readonly Segment[], b: readonly Segment[]): number {
  for (const [index, segment] of a.entries()) {
    const difference = weight(b[index]) - weight(segment);
    if (difference !== 0) return difference;
  }
  return 0;
}

function weight(segment: Segment): number {
  return 'literal' in segment ? 1_000 : segment.before.length + segment.after.length;
}

// Paths that were asked for, as a tree of bounded size whose variable parts are found out: what suggested policies are made of.

/** Different words in one place, past which the place is a variable. */
const MAX_CHILDREN = 20;
/** Characters of a word; what is longer is the name of a thing, and takes no room here. */
const MAX_WORD = 64;
/** Segments that are told apart; what is longer is known by its beginning. */
const MAX_DEPTH = 12;

interface Node {
  /** By segment. */
  readonly children: Map<string, Node>;
  /** Segments that look like variables; once it is `folded`, every segment. */
  variable: Node | null;
  folded: boolean;
  /** Requests that ended here, by method. */
  readonly ends: Map<string, number>;
  /** Requests that went deeper than is told apart. */
  readonly deeper: Map<string, number>;
}

export interface SeenPath {
  readonly kind: 'exact' | 'prefix' | 'regex';
  readonly value: string;
  /** Method → requests. */
  readonly methods: ReadonlyMap<string, number>;
}

export class SeenPaths {
  /** Requests whose paths there was no room for. */
  leftOut = 0;
  readonly #root = makeNode();
  readonly #budget: { left: number };

  /** `budget.left`: nodes that may still be made, by this tree and by others that share it. */
  constructor(budget: { left: number }) {
    this.#budget = budget;
  }

  /** `path` is normalised. */
  add(path: string, method: string): void {
    let node = this.#root;
    const segments = path.slice(1).split('/');
    for (const segment of segments.slice(0, MAX_DEPTH)) {
      const next = this.#child(node, segment);
      if (next === null) {
        this.leftOut += 1;
        return;
      }
      node = next;
    }
    count(segments.length > MAX_DEPTH ? node.deeper : node.ends, method, 1);
  }

  #child(node: Node, segment: string): Node | null {
    const variable = segment !== '' && (node.folded || looksVariable(segment));
    const known = variable ? node.variable : (node.children.get(segment) ?? null);
    if (known !== null || this.#budget.left === 0) return known;
    this.#budget.left -= 1;
    const made = makeNode();
    if (variable) node.variable = made;
    else node.children.set(segment, made);
    if (node.children.size <= MAX_CHILDREN) return made;
    fold(node);
    return segment === '' ? made : node.variable;
  }

  /** Alphabetically. */
  list(): SeenPath[] {
    const found: SeenPath[] = [];
    collect(this.#root, [], found);
    return found.sort((a, b) => (a.value < b.value ? -1 : Number(a.value > b.value)));
  }
}

function makeNode(): Node {
  return { children: new Map(), variable: null, folded: false, ends: new Map(), deeper: new Map() };
}

function count(counts: Map<string, number>, method: string, times: number): void {
  counts.set(method, (counts.get(method) ?? 0) + times);
}

/** Numbers, UUIDs, hashes, long mixtures of letters and digits: names of things rather than of kinds of things. */
function looksVariable(segment: string): boolean {
  if (segment.length > MAX_WORD || /^\d+$/.test(segment) || /^[\dA-Fa-f-]{16,}$/.test(segment)) return true;
  return segment.length >= 20 && /\d/.test(segment);
}

/** So many words in one place are no words; an empty segment (a trailing slash) stays what it is. */
function fold(node: Node): void {
  const variable = node.variable ?? makeNode();
  for (const [segment, child] of node.children) {
    if (segment === '') continue;
    merge(variable, child);
    node.children.delete(segment);
  }
  node.variable = variable;
  node.folded = true;
}

function merge(into: Node, from: Node): void {
  for (const [method, times] of from.ends) count(into.ends, method, times);
  for (const [method, times] of from.deeper) count(into.deeper, method, times);
  if (from.variable !== null) {
    into.variable ??= makeNode();
    merge(into.variable, from.variable);
  }
  if (from.folded && !into.folded) fold(into);
  for (const [segment, child] of from.children) {
    if (into.folded && segment !== '') {
      merge(into.variable as Node, child);
      continue;
    }
    const known = into.children.get(segment);
    if (known === undefined) into.children.set(segment, child);
    else merge(known, child);
  }
  if (into.children.size > MAX_CHILDREN) fold(into);
}

/** `null` stands for a variable segment. */
function collect(node: Node, segments: readonly (string | null)[], found: SeenPath[]): void {
  if (node.ends.size > 0) found.push({ ...pattern(segments, false), methods: node.ends });
  if (node.deeper.size > 0) found.push({ ...pattern(segments, true), methods: node.deeper });
  for (const [segment, child] of node.children) collect(child, [...segments, segment], found);
  if (node.variable !== null) collect(node.variable, [...segments, null], found);
}

function pattern(segments: readonly (string | null)[], deeper: boolean): Pick<SeenPath, 'kind' | 'value'> {
  if (!segments.includes(null)) {
    const value = `/${segments.join('/')}`;
    return { kind: deeper ? 'prefix' : 'exact', value };
  }
  const parts = segments.map((segment) =>
    segment === null ? '[^/]+' : segment.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
  );
  return { kind: 'regex', value: `/${parts.join('/')}${deeper ? '/.*' : ''}` };
}

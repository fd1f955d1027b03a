// The rules of one host: exact paths by map, then regexes, then prefixes by a tree of segments from the longest to the shortest.
import { type Bucket, type Candidate, makeBucket } from './bucket.ts';
import type { RequestFacts } from './request-view.ts';

/** One prefix that is a whole path of segments, or a step towards longer ones. */
interface PrefixNode<R extends Candidate> {
  /** Null: none goes on from here, which is so for nearly all of them. */
  children: Map<string, PrefixNode<R>> | null;
  readonly rules: R[];
  bucket: Bucket<R> | null;
  /** The next shorter prefix that has rules. */
  shorter: PrefixNode<R> | null;
}

export class HostRules<R extends Candidate> {
  readonly #exact = new Map<string, Bucket<R>>();
  readonly #regexes: Bucket<R> | null;
  readonly #prefixes: PrefixNode<R> = makeNode();

  /** `rules` are sorted by position. */
  constructor(rules: readonly R[]) {
    const exact = new Map<string, R[]>();
    const regexes: R[] = [];
    for (const rule of rules) {
      const { pathKind, pathValue } = rule.compiled;
      if (pathKind === 'regex') regexes.push(rule);
      else if (pathKind === 'prefix') this.#nodeOf(pathValue).rules.push(rule);
      else if (exact.has(pathValue)) (exact.get(pathValue) as R[]).push(rule);
      else exact.set(pathValue, [rule]);
    }
    for (const [path, list] of exact) this.#exact.set(path, makeBucket(list));
    this.#regexes = regexes.length === 0 ? null : makeBucket(regexes);
    link(this.#prefixes, null);
  }

  #nodeOf(prefix: string): PrefixNode<R> {
    let node = this.#prefixes;
    if (prefix === '/') return node;
    for (const segment of prefix.slice(1).split('/')) {
      node.children ??= new Map();
      let child = node.children.get(segment);
      if (child === undefined) {
        child = makeNode();
        node.children.set(segment, child);
      }
      node = child;
    }
    return node;
  }

  find(facts: RequestFacts): R | null {
    const { path } = facts.view;
    const exact = this.#exact.get(path)?.find(facts) ?? null;
    if (exact !== null) return exact;
    const byRegex = this.#regexes === null ? null : this.#regexes.find(facts);
    if (byRegex !== null) return byRegex;
    if (path.charCodeAt(0) !== 0x2f) return null;
    for (let node: PrefixNode<R> | null = deepest(this.#prefixes, path); node !== null; node = node.shorter) {
      const found = node.bucket === null ? null : node.bucket.find(facts);
      if (found !== null) return found;
    }
    return null;
  }
}

/** The node of the longest known prefix of `path`. */
function deepest<R extends Candidate>(root: PrefixNode<R>, path: string): PrefixNode<R> {
  let node = root;
  let start = 1;
  while (node.children !== null && start <= path.length) {
    const slash = path.indexOf('/', start);
    const end = slash < 0 ? path.length : slash;
    const child = node.children.get(path.slice(start, end));
    if (child === undefined) break;
    node = child;
    start = end + 1;
  }
  return node;
}

function makeNode<R extends Candidate>(): PrefixNode<R> {
  return { children: null, rules: [], bucket: null, shorter: null };
}

/** A stack instead of recursion: a prefix may have as many segments as its writer liked. */
function link<R extends Candidate>(root: PrefixNode<R>, above: PrefixNode<R> | null): void {
  const waiting: [PrefixNode<R>, PrefixNode<R> | null][] = [[root, above]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [node, shorter] = next;
    node.shorter = shorter;
    if (node.rules.length > 0) node.bucket = makeBucket(node.rules);
    const nearest = node.bucket === null ? shorter : node;
    if (node.children !== null) for (const child of node.children.values()) waiting.push([child, nearest]);
  }
}

// Joins the documents of one config by name. The order of files never decides anything: what is said twice is an error.
import type { Place } from './model.ts';
import { formatPlace, type Problem } from './problem.ts';
import type { Dict, Entry, Tree } from './tree.ts';

export interface Merged {
  /** Null when no document is a config. */
  readonly tree: Dict | null;
  readonly problems: readonly Problem[];
  /** A document was left out. */
  readonly incomplete: boolean;
}

/** Maps of named things; `telemetry` too may be said in parts. */
const BY_NAME: ReadonlySet<string> = new Set(['gateways', 'services', 'telemetry', 'mesh']);
const LISTS: ReadonlySet<string> = new Set(['routes', 'authorization']);
const NOUNS: Readonly<Record<string, string>> = { gateways: 'gateway ', services: 'service ' };

export function merge(trees: readonly Tree[]): Merged {
  const problems: Problem[] = [];
  const documents: Dict[] = [];
  for (const tree of trees) {
    const message = refusal(tree);
    if (message === null) documents.push(tree as Dict);
    else problems.push({ severity: 'error', place: tree.source.place, path: '', message });
  }
  if (documents.length === 0) return { tree: null, problems, incomplete: true };

  const entries = new Map<string, Entry>();
  for (const document of documents) {
    for (const [key, entry] of document.entries) {
      // Where editors find the schema.
      if (key === '$schema') continue;
      const before = entries.get(key);
      entries.set(
        key,
        before === undefined ? entry : { keyPlace: before.keyPlace, value: join(key, before, entry, problems) },
      );
    }
  }
  return {
    tree: { kind: 'dict', entries, source: documents[0].source },
    problems,
    incomplete: documents.length < trees.length,
  };
}

function refusal(tree: Tree): string | null {
  if (tree.kind !== 'dict') {
    return `a config is a map of keys such as version, gateways, services and routes, not ${tree.kind === 'list' ? 'a list' : 'a single value'}`;
  }
  if (!tree.entries.has('apiVersion') || !tree.entries.has('kind')) return null;
  return 'Kubernetes documents (apiVersion, kind) are not supported by this version';
}

function join(key: string, before: Entry, after: Entry, problems: Problem[]): Tree {
  const first = before.value;
  const second = after.value;
  if (isNothing(second)) return first;
  if (isNothing(first)) return second;
  if (LISTS.has(key) && first.kind === 'list' && second.kind === 'list') {
    return { ...first, items: [...first.items, ...second.items] };
  }
  if (BY_NAME.has(key) && first.kind === 'dict' && second.kind === 'dict') {
    const entries = new Map(first.entries);
    for (const [name, entry] of second.entries) {
      const other = entries.get(name);
      if (other === undefined) entries.set(name, entry);
      else problems.push(twice(`${key}.${name}`, `${NOUNS[key] ?? ''}"${name}"`, other.keyPlace, entry.keyPlace));
    }
    return { ...first, entries };
  }
  if (key === 'version' && first.kind === 'leaf' && second.kind === 'leaf' && first.value === second.value)
    return first;
  problems.push(twice(key, `"${key}"`, before.keyPlace, after.keyPlace));
  return first;
}

function isNothing(tree: Tree): boolean {
  return tree.kind === 'leaf' && tree.value === null;
}

function twice(path: string, what: string, first: Place, second: Place): Problem {
  return { severity: 'error', place: second, path, message: `${what} is defined twice, also at ${formatPlace(first)}` };
}

// How `selvedge print` writes the effective config: YAML with origins as comments, or plain values for JSON.
import { Document, Pair, Scalar, YAMLMap, YAMLSeq } from 'yaml';
import { formatPlace } from '../config/problem.ts';
import type { ValueOrigin } from '../config/provenance.ts';
import type { Annotated } from './effective-config.ts';

export function effectiveYaml(tree: Annotated): string {
  const document = new Document();
  document.contents = nodeOf(tree) as typeof document.contents;
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

function nodeOf({ parts, scalar, origin }: Annotated): Scalar | YAMLMap | YAMLSeq {
  if (parts === null) return commented(new Scalar(scalar), origin);
  if (parts.list) {
    const list = new YAMLSeq();
    list.items = parts.items.map(nodeOf);
    return parts.items.length === 0 ? commented(flow(list), origin) : list;
  }
  const map = new YAMLMap();
  map.items = parts.items.map((part) => new Pair(new Scalar(part.key), nodeOf(part)));
  return parts.items.length === 0 ? commented(flow(map), origin) : map;
}

function flow<T extends YAMLMap | YAMLSeq>(collection: T): T {
  collection.flow = true;
  return collection;
}

function commented<T extends Scalar | YAMLMap | YAMLSeq>(node: T, origin: ValueOrigin): T {
  node.comment = ` ${originText(origin)}`;
  return node;
}

/** `config/shop.yaml:12:5`, `default`, `${PORT} config/shop.yaml:12:5`. */
function originText({ place, variables }: ValueOrigin): string {
  if (place === null) return 'default';
  return [...variables.map((name) => `\${${name}}`), formatPlace(place)].join(' ');
}

export function plainValue({ parts, scalar }: Annotated): unknown {
  if (parts === null) return scalar;
  return parts.list
    ? parts.items.map(plainValue)
    : Object.fromEntries(parts.items.map((part) => [part.key, plainValue(part)]));
}

/** By path in the printed config; of maps and lists only the empty ones. */
export function originsByPath(tree: Annotated, path = ''): Record<string, string> {
  if (tree.parts === null || tree.parts.items.length === 0) return { [path]: originText(tree.origin) };
  const { list, items } = tree.parts;
  return Object.assign(
    {},
    ...items.map((item, index) =>
      originsByPath(item, list ? `${path}[${index}]` : path === '' ? String(item.key) : `${path}.${item.key}`),
    ),
  );
}

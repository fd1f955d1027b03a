// The provenance of a config in pieces that cross to another thread and lie there as bytes: nobody pays for reading them until somebody asks.
import { deserialize, serialize } from 'node:v8';
import type { Place } from './model.ts';
import type { Json, Origin, OriginLookup } from './origins.ts';

/** Lists and maps that grow with a config. */
export const PARTS: readonly string[] = ['gateways', 'services', 'routes', 'authorization'];
/** Routes or services in one piece: what looking one of them up reads at once. */
const ITEMS = 50;

export interface ProvenancePiece {
  /** Which of `PARTS`; null: the config around them, where each of them is empty. */
  readonly part: string | null;
  /** Index of its first item. */
  readonly first: number;
  /** Of a map. */
  readonly names: readonly string[] | null;
  readonly data: ArrayBuffer;
}

type StoredOrigin = Pick<Origin, 'place' | 'variables' | 'secret'>;

/** `data`. Of each value below `value`, in the order of a walk: file (1-based; 0: a default), line, column. */
interface Stored {
  readonly value: Json;
  readonly files: readonly string[];
  readonly places: Int32Array;
  /** The few values with anything more to say, by their number in the walk. */
  readonly notes: readonly (readonly [number, Omit<StoredOrigin, 'place'>])[];
}

export function* packProvenance(config: Json, origins: OriginLookup): Generator<ProvenancePiece> {
  const parts = PARTS.filter((part) => typeof config[part] === 'object' && config[part] !== null);
  const around = { ...config };
  for (const part of parts) around[part] = Array.isArray(config[part]) ? [] : {};
  yield { part: null, first: 0, names: null, data: pack(around, (key) => origins.child(config, key), origins) };
  for (const part of parts) {
    const whole = config[part] as Json;
    const keys = Object.keys(whole);
    for (let first = 0; first < keys.length; first += ITEMS) {
      const names = keys.slice(first, first + ITEMS);
      const isList = Array.isArray(whole);
      const value = isList
        ? whole.slice(first, first + ITEMS)
        : Object.fromEntries(names.map((name) => [name, whole[name]]));
      const originOf = (key: string) => origins.child(whole, isList ? first + Number(key) : key);
      yield { part, first, names: isList ? null : names, data: pack(value as Json, originOf, origins) };
    }
  }
}

function pack(value: Json, originOf: (key: string) => StoredOrigin | undefined, origins: OriginLookup): ArrayBuffer {
  const places: number[] = [];
  const files = new Map<string, number>();
  const notes: [number, Omit<StoredOrigin, 'place'>][] = [];
  const walk = (container: Json, of: (key: string) => StoredOrigin | undefined): void => {
    for (const key of Object.keys(container)) {
      const origin = of(key);
      if (origin === undefined) places.push(0, 0, 0);
      else {
        const { place, variables, secret } = origin;
        if (variables.length > 0 || secret) notes.push([places.length / 3, { variables, secret }]);
        if (!files.has(place.file)) files.set(place.file, files.size + 1);
        places.push(files.get(place.file) as number, place.line, place.column);
      }
      const inner = container[key];
      if (isContainer(inner)) walk(inner, (below) => origins.child(inner, below));
    }
  };
  walk(value, originOf);
  const stored: Stored = { value, files: [...files.keys()], places: Int32Array.from(places), notes };
  const bytes = serialize(stored);
  // In memory of its own, which can be handed over.
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
}

/** The origins of one or several pieces, by container and key. */
export type StoredOrigins = Map<object, Map<string, StoredOrigin>>;

/** The value of a piece; the origins of what is in it go to `into`. */
export function unpack({ data }: ProvenancePiece, into: StoredOrigins): Json {
  const { value, files, places, notes } = deserialize(new Uint8Array(data)) as Stored;
  const more = new Map(notes);
  let index = 0;
  const walk = (container: Json): void => {
    const children = new Map<string, StoredOrigin>();
    into.set(container, children);
    for (const key of Object.keys(container)) {
      const [file, line, column] = places.subarray(index * 3, index * 3 + 3);
      const { variables, secret } = more.get(index++) ?? PLAIN;
      const place: Place = { file: files[file - 1], line, column };
      if (file > 0) children.set(key, { place, variables, secret });
      const inner = container[key];
      if (isContainer(inner)) walk(inner);
    }
  };
  walk(value);
  return value;
}

const PLAIN: Omit<StoredOrigin, 'place'> = { variables: [], secret: false };

function isContainer(value: unknown): value is Json {
  return typeof value === 'object' && value !== null;
}

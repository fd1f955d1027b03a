// A loaded config on its way from one thread to another: in pieces, because taking it in at once would hold up the thread that serves. A piece
// that is what it was in the config before is not sent again: its routes stay the objects that they are.
import { deserialize, serialize } from 'node:v8';
import { freeze } from '../config/freeze.ts';
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';
import type { ProvenancePiece } from '../config/provenance-pieces.ts';
import { StoredProvenance } from '../config/stored-provenance.ts';
import type { Loaded, withConflicts } from './loaded.ts';

/** Routes, services or problems of one piece: about a millisecond to take in. */
const ITEMS = 100;
/** Lists that grow with the config. */
const LISTS = ['routes', 'services', 'authorization'] as const;
type ListName = (typeof LISTS)[number];
type ByList<T> = Readonly<Record<ListName, readonly T[]>>;

type ProvenanceMessage = { readonly kind: 'provenance'; readonly piece: ProvenancePiece };
export type LoadedPiece =
  | {
      readonly kind: 'first';
      /** With empty lists in place of the long ones. */
      readonly config: Config | null;
      readonly files: readonly string[];
      /** Null: there is no provenance. */
      readonly secretTexts: readonly string[] | null;
    }
  | { readonly kind: 'problems'; readonly items: readonly Problem[] }
  /** The next items of a list, serialized; null: as they were in the config before. */
  | { readonly kind: ListName; readonly items: Uint8Array | null }
  | ProvenanceMessage;

type Read = ReturnType<typeof withConflicts<Provenance>>;

/** A part of a list as it was sent. */
interface Sent {
  readonly items: readonly unknown[];
  readonly bytes: Buffer;
}

/** In the thread that reads. Remembers what it sent of the last sound config: its lists, and as many bytes as they take. */
export class LoadedPieces {
  #sent: ByList<Sent> = { routes: [], services: [], authorization: [] };

  /** The config and what is wrong with it. `config` is plain data: so is every config that was no module. */
  *about({ config, problems, files, provenance }: Read): Generator<LoadedPiece> {
    const around = config === null ? null : { ...config, routes: [], services: [], authorization: [] };
    yield { kind: 'first', config: around, files, secretTexts: provenance?.secretTexts ?? null };
    for (const items of inParts(problems)) yield { kind: 'problems', items };
    if (config === null) return;
    const sent = { routes: [] as Sent[], services: [] as Sent[], authorization: [] as Sent[] };
    for (const kind of LISTS) {
      for (const items of inParts<unknown>(config[kind])) {
        const before = this.#sent[kind][sent[kind].length];
        // A route that the load before resolved is the same object; what is another may still say the same.
        const isSame = before?.items.length === items.length && items.every((item, at) => item === before.items[at]);
        const bytes = isSame ? before.bytes : serialize(items);
        sent[kind].push({ items, bytes });
        yield { kind, items: before?.bytes.equals(bytes) === true ? null : bytes };
      }
    }
    this.#sent = sent;
  }

  *provenance({ config, provenance }: Read): Generator<ProvenanceMessage> {
    if (config === null) return;
    for (const piece of provenance?.pieces() ?? []) yield { kind: 'provenance', piece };
  }
}

function* inParts<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += ITEMS) yield items.slice(at, at + ITEMS);
}

/** The lists of a config as they came. */
export type TakenLists = ByList<readonly unknown[]>;
export const NOTHING_TAKEN: TakenLists = { routes: [], services: [], authorization: [] };

/** Puts the pieces together again, in the order in which they were made. */
export class LoadedParts {
  readonly #before: TakenLists;
  readonly #lists: Record<ListName, (readonly unknown[])[]> = { routes: [], services: [], authorization: [] };
  readonly #problems: Problem[] = [];
  readonly #provenance: ProvenancePiece[] = [];
  #first: Extract<LoadedPiece, { kind: 'first' }> | null = null;

  /** `before`: of the last sound config that came from the same thread. */
  constructor(before: TakenLists) {
    this.#before = before;
  }

  add(piece: LoadedPiece): void {
    if (piece.kind === 'first') this.#first = piece;
    else if (piece.kind === 'problems') this.#problems.push(...piece.items);
    else if (piece.kind === 'provenance') this.#provenance.push(piece.piece);
    else {
      const list = this.#lists[piece.kind];
      // Crossing thaws.
      list.push(piece.items === null ? this.#before[piece.kind][list.length] : freeze(deserialize(piece.items)));
    }
  }

  /** For the parts of the next config. */
  get taken(): TakenLists {
    return this.#first?.config == null ? this.#before : this.#lists;
  }

  /** Throws an Error where the first piece has not come. */
  loaded(): Loaded {
    if (this.#first === null) throw new Error('nothing was loaded');
    const { config, files, secretTexts } = this.#first;
    const problems = this.#problems;
    if (config === null) return { config, problems, files, provenance: null };
    const { routes, services, authorization } = this.#lists;
    const lists = { routes: routes.flat(), services: services.flat(), authorization: authorization.flat() };
    for (const list of Object.values(lists)) Object.freeze(list);
    const whole = freeze({ ...config, ...(lists as unknown as Pick<Config, ListName>) });
    const provenance = secretTexts === null ? null : new StoredProvenance(this.#provenance, secretTexts, whole);
    return { config: whole, problems, files, provenance };
  }
}

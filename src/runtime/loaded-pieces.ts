// A loaded config on its way from one thread to another: in pieces, because taking it in at once would hold up the thread that serves.
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
  | { readonly kind: ListName; readonly items: readonly unknown[] }
  | { readonly kind: 'provenance'; readonly piece: ProvenancePiece };

interface LoadedPieces {
  /** The config and what is wrong with it. */
  readonly about: Iterable<LoadedPiece>;
  readonly provenance: Iterable<Extract<LoadedPiece, { kind: 'provenance' }>>;
}

type Read = ReturnType<typeof withConflicts<Provenance>>;

/** `config` is plain data: so is every config that was no module. */
export function piecesOf(read: Read): LoadedPieces {
  return { about: piecesAbout(read), provenance: read.config === null ? [] : piecesOfProvenance(read) };
}

function* piecesAbout({ config, problems, files, provenance }: Read): Generator<LoadedPiece> {
  const around = config === null ? null : { ...config, routes: [], services: [], authorization: [] };
  yield { kind: 'first', config: around, files, secretTexts: provenance?.secretTexts ?? null };
  for (const items of inParts(problems)) yield { kind: 'problems', items };
  if (config === null) return;
  for (const kind of LISTS) for (const items of inParts<unknown>(config[kind])) yield { kind, items };
}

function* piecesOfProvenance({ provenance }: Read): Generator<Extract<LoadedPiece, { kind: 'provenance' }>> {
  for (const piece of provenance?.pieces() ?? []) yield { kind: 'provenance', piece };
}

function* inParts<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += ITEMS) yield items.slice(at, at + ITEMS);
}

/** Puts the pieces together again, in the order in which they were made. */
export class LoadedParts {
  readonly #lists: Record<ListName, unknown[]> = { routes: [], services: [], authorization: [] };
  readonly #problems: Problem[] = [];
  readonly #provenance: ProvenancePiece[] = [];
  #first: Extract<LoadedPiece, { kind: 'first' }> | null = null;

  add(piece: LoadedPiece): void {
    if (piece.kind === 'first') this.#first = piece;
    else if (piece.kind === 'problems') this.#problems.push(...piece.items);
    else if (piece.kind === 'provenance') this.#provenance.push(piece.piece);
    // Crossing thaws.
    else this.#lists[piece.kind].push(...freeze(piece.items));
  }

  /** Throws an Error where the first piece has not come. */
  loaded(): Loaded {
    if (this.#first === null) throw new Error('nothing was loaded');
    const { config, files, secretTexts } = this.#first;
    for (const list of Object.values(this.#lists)) Object.freeze(list);
    const whole = config === null ? null : freeze({ ...config, ...(this.#lists as unknown as Pick<Config, ListName>) });
    const provenance =
      secretTexts === null || whole === null ? null : new StoredProvenance(this.#provenance, secretTexts, whole);
    return { config: whole, problems: this.#problems, files, provenance };
  }
}

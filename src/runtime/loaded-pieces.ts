// A loaded config on its way from one thread to another: in pieces, because taking it in at once would hold up the thread that serves. What is
// as it was in the config before is not sent again: such routes stay the objects that they are, or copies of them some lines further down.
import { deserialize, serialize } from 'node:v8';
import { freeze } from '../config/freeze.ts';
import type { Config, RouteConfig } from '../config/model.ts';
import { movedRoute } from '../config/moved-route.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';
import type { ProvenancePiece } from '../config/provenance-pieces.ts';
import { StoredProvenance } from '../config/stored-provenance.ts';
import type { Loaded, withConflicts } from './loaded.ts';

/** Routes, services or problems of one piece: about a millisecond to take in. */
const ITEMS = 100;
/** Lists that grow with the config, beside the routes. */
const LISTS = ['services', 'authorization'] as const;
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
  /** The next routes, serialized. */
  | { readonly kind: 'routes'; readonly items: Uint8Array }
  /** The next routes are so many of the config before, from the first of them on, but stand some lines further down. */
  | { readonly kind: 'known'; readonly first: number; readonly count: number; readonly lines: number }
  /** The next items of a list, serialized; null: as they were in the config before. */
  | { readonly kind: ListName; readonly items: Uint8Array | null }
  | ProvenanceMessage;

type Read = ReturnType<typeof withConflicts<Provenance>>;

/** Where a route stood when it was sent. */
interface SentRoute {
  readonly index: number;
  readonly line: number;
}

/** In the thread that reads. Remembers what it sent of the last sound config. */
export class LoadedPieces {
  #routes: ReadonlyMap<RouteConfig, SentRoute> = new Map();
  #sent: ByList<Buffer> = { services: [], authorization: [] };

  /** The config and what is wrong with it. `config` is plain data: so is every config that was no module. */
  *about({ config, problems, files, provenance }: Read): Generator<LoadedPiece> {
    const around = config === null ? null : { ...config, routes: [], services: [], authorization: [] };
    yield { kind: 'first', config: around, files, secretTexts: provenance?.secretTexts ?? null };
    for (const items of inParts(problems)) yield { kind: 'problems', items };
    if (config === null) return;
    for (const { items, first, lines } of runsOf(config.routes, this.#routes))
      yield first === null
        ? { kind: 'routes', items: serialize(items) }
        : { kind: 'known', first, count: items.length, lines };
    this.#routes = new Map(config.routes.map((route, index) => [route, { index, line: route.at.line }]));
    const sent = { services: [] as Buffer[], authorization: [] as Buffer[] };
    for (const kind of LISTS) {
      for (const items of inParts<unknown>(config[kind])) {
        const bytes = serialize(items);
        const before = this.#sent[kind][sent[kind].length];
        sent[kind].push(bytes);
        yield { kind, items: before?.equals(bytes) === true ? null : bytes };
      }
    }
    this.#sent = sent;
  }

  *provenance({ config, provenance }: Read): Generator<ProvenanceMessage> {
    if (config === null) return;
    for (const piece of provenance?.pieces() ?? []) yield { kind: 'provenance', piece };
  }
}

interface Run {
  readonly items: RouteConfig[];
  /** Index of the first of them in the config before; null: they are new. */
  readonly first: number | null;
  readonly lines: number;
}

/** Routes in a row that are all new, or stood in a row and moved together. */
function* runsOf(routes: readonly RouteConfig[], sent: ReadonlyMap<RouteConfig, SentRoute>): Generator<Run> {
  let run: Run = { items: [], first: null, lines: 0 };
  for (const route of routes) {
    const before = sent.get(route);
    const first = before?.index ?? null;
    const lines = before === undefined ? 0 : route.at.line - before.line;
    const next = run.first === null ? null : run.first + run.items.length;
    if (run.items.length === ITEMS || first !== next || lines !== run.lines) {
      if (run.items.length > 0) yield run;
      run = { items: [], first, lines };
    }
    run.items.push(route);
  }
  if (run.items.length > 0) yield run;
}

function* inParts<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += ITEMS) yield items.slice(at, at + ITEMS);
}

/** The lists of a config as they came, the long ones but the routes in parts. */
export interface TakenLists extends ByList<readonly unknown[]> {
  readonly routes: readonly RouteConfig[];
}
export const NOTHING_TAKEN: TakenLists = { routes: [], services: [], authorization: [] };

/** Puts the pieces together again, in the order in which they were made. */
export class LoadedParts {
  readonly #before: TakenLists;
  readonly #routes: RouteConfig[] = [];
  readonly #lists: Record<ListName, (readonly unknown[])[]> = { services: [], authorization: [] };
  readonly #problems: Problem[] = [];
  readonly #provenance: ProvenancePiece[] = [];
  #first: Extract<LoadedPiece, { kind: 'first' }> | null = null;

  /** `before`: of the last sound config that came from the same thread. */
  constructor(before: TakenLists) {
    this.#before = before;
  }

  add(piece: LoadedPiece): void {
    switch (piece.kind) {
      case 'first':
        this.#first = piece;
        break;
      case 'problems':
        this.#problems.push(...piece.items);
        break;
      case 'provenance':
        this.#provenance.push(piece.piece);
        break;
      case 'routes':
        this.#routes.push(...taken<RouteConfig>(piece.items));
        break;
      case 'known':
        for (const route of this.#before.routes.slice(piece.first, piece.first + piece.count))
          this.#routes.push(movedRoute(route, piece.lines));
        break;
      default: {
        const list = this.#lists[piece.kind];
        list.push(piece.items === null ? this.#before[piece.kind][list.length] : taken(piece.items));
      }
    }
  }

  /** For the parts of the next config. */
  get taken(): TakenLists {
    return this.#first?.config == null ? this.#before : { ...this.#lists, routes: this.#routes };
  }

  /** Throws an Error where the first piece has not come. */
  loaded(): Loaded {
    if (this.#first === null) throw new Error('nothing was loaded');
    const { config, files, secretTexts } = this.#first;
    const problems = this.#problems;
    if (config === null) return { config, problems, files, provenance: null };
    const { services, authorization } = this.#lists;
    const lists = { routes: this.#routes, services: services.flat(), authorization: authorization.flat() };
    for (const list of Object.values(lists)) Object.freeze(list);
    const whole = freeze({ ...config, ...(lists as unknown as Pick<Config, ListName | 'routes'>) });
    const provenance = secretTexts === null ? null : new StoredProvenance(this.#provenance, secretTexts, whole);
    return { config: whole, problems, files, provenance };
  }
}

/** Crossing thaws. */
function taken<T>(items: Uint8Array): readonly T[] {
  return freeze(deserialize(items));
}

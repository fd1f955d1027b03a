// Hears the service's answer to a request that the cache could not answer: passes it on, keeps it where it may, validates what is stored.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../plugin.ts';
import type { Asked } from './asked.ts';
import { fieldOf, parseDirectives } from './directives.ts';
import type { Flight } from './flights.ts';
import { type Freshness, freshnessOf, usableOnError } from './freshness.ts';
import { sameTag } from './serve.ts';
import type { Entry, Store } from './store.ts';
import { keptHeaders, validatedHeaders, variedBy } from './stored-head.ts';

/** Of an error in whose place a stored answer is used; a longer one is broken off. */
const DROPPED_BYTES = 65_536;
const FAILURES = new Set([500, 502, 503, 504]);

export interface FetchSettings {
  readonly heuristic: boolean;
  readonly staleIfErrorMs: number;
  readonly maxEntryBytes: number;
}

export interface FetchRequest {
  readonly asked: Asked;
  /** As it is sent. */
  readonly options: DispatchOptions;
  /** What is stored already; `validating`: the request asks whether it still holds. */
  readonly entry: Entry | null;
  readonly validating: boolean;
  readonly flight: Flight | null;
}

export interface FetchOutcome {
  /** Answers the request from `entry`. */
  serve(entry: Entry, how: 'validated' | 'stale'): void;
  /** The answer passes: what Cache-Status says of it, or null. */
  passing(status: number, stored: boolean): string | null;
}

export class Fetching implements DispatchHandler {
  readonly #store: Store;
  readonly #settings: FetchSettings;
  readonly #request: FetchRequest;
  readonly #handler: DispatchHandler;
  readonly #outcome: FetchOutcome;
  readonly #requestedAt = Date.now();
  #mode: 'waiting' | 'passing' | 'validated' | 'failed' | 'over' = 'waiting';
  #status = 0;
  #headers: ResponseHeaders = {};
  #freshness: Freshness | null = null;
  #respondedAt = 0;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(
    store: Store,
    settings: FetchSettings,
    request: FetchRequest,
    handler: DispatchHandler,
    outcome: FetchOutcome,
  ) {
    this.#store = store;
    this.#settings = settings;
    this.#request = request;
    this.#handler = handler;
    this.#outcome = outcome;
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    status: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket, head);
  }

  onResponseStart(controller: DispatchController, status: number, headers: ResponseHeaders, message?: string): void {
    if (status < 200) {
      this.#handler.onResponseStart?.(controller, status, headers, message);
      return;
    }
    const { entry, validating, flight } = this.#request;
    this.#respondedAt = Date.now();
    this.#status = status;
    this.#headers = headers;
    if (entry !== null && validating && status === 304) this.#mode = 'validated';
    else if (entry !== null && FAILURES.has(status) && usableOnError(entry.freshness, this.#respondedAt))
      this.#mode = 'failed';
    else {
      this.#mode = 'passing';
      this.#freshness = this.#mayStore(status, headers);
      const stored = this.#freshness !== null;
      if (!stored) flight?.settle('pass');
      const says = this.#outcome.passing(status, stored);
      const before = fieldOf(headers, 'cache-status');
      const passed =
        says === null ? headers : { ...headers, 'cache-status': before === undefined ? says : `${before}, ${says}` };
      this.#handler.onResponseStart?.(controller, status, passed, message);
    }
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#mode === 'passing') {
      if (this.#freshness !== null) this.#keep(chunk);
      this.#handler.onResponseData?.(controller, chunk);
    } else if (this.#mode === 'failed' && this.#bytes > DROPPED_BYTES) {
      controller.abort(new Error('a stored answer is used in place of this one'));
    }
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    const mode = this.#mode;
    this.#mode = 'over';
    const { entry } = this.#request;
    if (mode === 'validated') this.#validated(entry as Entry);
    else if (mode === 'failed') this.#serveStale(entry as Entry);
    else {
      if (this.#freshness !== null && Object.keys(trailers).length === 0) this.#putWhole(this.#freshness);
      this.#request.flight?.settle(this.#freshness === null ? 'pass' : 'stored');
      this.#handler.onResponseEnd?.(controller, trailers);
    }
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    const mode = this.#mode;
    if (mode === 'over') return;
    this.#mode = 'over';
    const { entry, flight } = this.#request;
    const left = (error as { code?: unknown }).code === 'SLV_CLIENT_ABORTED';
    const begun = mode === 'passing';
    if (!left && !begun && entry !== null && usableOnError(entry.freshness, Date.now())) {
      this.#serveStale(entry);
      return;
    }
    flight?.settle(left ? 'left' : 'pass');
    this.#handler.onResponseError?.(controller, error);
  }

  #mayStore(status: number, headers: ResponseHeaders): Freshness | null {
    const { asked, flight } = this.#request;
    if (asked.method !== 'GET' || flight?.doomed === true) return null;
    const freshness = freshnessOf(status, headers, this.#requestedAt, this.#respondedAt, this.#settings);
    if (freshness === null || (asked.credentials && !freshness.shareable)) return null;
    if (Number(fieldOf(headers, 'content-length') ?? 0) > this.#settings.maxEntryBytes) return null;
    return headers.trailer === undefined ? freshness : null;
  }

  /** An answer that turns out too large loses nothing: it is only not kept. */
  #keep(chunk: Buffer): void {
    if (this.#bytes <= this.#settings.maxEntryBytes) {
      this.#chunks.push(chunk);
      return;
    }
    this.#freshness = null;
    this.#chunks = [];
    this.#request.flight?.settle('pass');
  }

  #putWhole(freshness: Freshness): void {
    const { asked, flight, options } = this.#request;
    if (flight?.doomed === true) return;
    const declared = fieldOf(this.#headers, 'content-length');
    if (declared !== undefined && Number(declared) !== this.#bytes) return;
    const headers = keptHeaders(this.#headers, this.#respondedAt);
    // A copy of its own: a chunk may be a view into a buffer far larger.
    const body = Buffer.concat(this.#chunks, this.#bytes);
    const { resource, lane } = asked;
    this.#store.put({
      resource,
      lane,
      vary: variedBy(headers, options.headers),
      status: this.#status,
      headers,
      body,
      freshness,
    });
  }

  #validated(entry: Entry): void {
    const { options, flight } = this.#request;
    const told = this.#headers;
    const headers = validatedHeaders(entry.headers, told);
    const freshness = freshnessOf(entry.status, headers, this.#requestedAt, this.#respondedAt, this.#settings);
    const same =
      typeof told.etag !== 'string' || typeof entry.headers.etag !== 'string' || sameTag(told.etag, entry.headers.etag);
    const kept = keptHeaders(headers, this.#respondedAt);
    const next: Entry = {
      ...entry,
      headers: kept,
      freshness: freshness ?? { ...entry.freshness, respondedAt: this.#respondedAt, initialAgeMs: 0 },
    };
    this.#store.remove(entry);
    if (
      freshness !== null &&
      same &&
      flight?.doomed !== true &&
      !parseDirectives(fieldOf(told, 'cache-control')).has('no-store')
    )
      this.#store.put({ ...next, vary: variedBy(kept, options.headers) });
    flight?.settle('stored');
    this.#outcome.serve(next, 'validated');
  }

  #serveStale(entry: Entry): void {
    this.#request.flight?.settle('stored');
    this.#outcome.serve(entry, 'stale');
  }
}

// Answers from memory what the service allows to be kept (RFC 9111, as a shared cache), after every hook has let the request through.
import type { FastifyRequest } from 'fastify';
import {
  calledFor,
  calledService,
  type Dispatch,
  type DispatchHandler,
  type DispatchOptions,
  definePlugin,
  type Exchange,
  SelvedgeError,
} from '../plugin.ts';
import { type Asked, askedOf, resourceOf } from './cache/asked.ts';
import { Fetching, type FetchOutcome } from './cache/fetching.ts';
import { type CacheResult, openFigures } from './cache/figures.ts';
import { Flight } from './cache/flights.ts';
import { ageMs, usability } from './cache/freshness.ts';
import { InvalidateAfter, Unheard } from './cache/handlers.ts';
import { CacheOptions, cacheProblems, settingsOf } from './cache/options.ts';
import { serve } from './cache/serve.ts';
import { type Entry, Store } from './cache/store.ts';
import { isConditional, withValidators } from './cache/stored-head.ts';

/** Stored answers that are validated at once behind the back of their readers. */
const MOST_BEHIND = 64;
const BEHIND_TIMEOUT_MS = 15_000;

export default definePlugin({ name: 'cache', options: CacheOptions, check: cacheProblems }, async (app, options) => {
  const { owner } = app.chain;
  const settings = { ...settingsOf(options), heuristic: options.heuristic };
  const { store, flights } = app.shared(`cache ${owner} ${JSON.stringify(options)}`, () => ({
    store: new Store(settings.maxBytes, options.maxEntries),
    flights: new Map<string, Flight>(),
  }));
  const figures = openFigures(app, store);
  const requests = new WeakMap<Exchange, FastifyRequest>();
  let behind = 0;

  app.addHook('onRequest', (request, _reply, done) => {
    requests.set(request.selvedge, request);
    done();
  });

  app.upstream.intercept('perRequest', (dispatch) => (sent, handler) => {
    const record = calledFor(sent);
    const request = record === null ? undefined : requests.get(record);
    if (record === null || request === undefined || sent.upgrade !== null) return dispatch(sent, handler);
    if (!SAFE.has(sent.method)) {
      const invalidate = (path: string, query: string) => forget(resourceOf(record, path, query, options));
      return dispatch(sent, new InvalidateAfter(handler, record, invalidate));
    }
    const asked = askedOf(sent, record, request, options);
    if (asked !== null) return answer(dispatch, sent, handler, record, asked, 'may-wait');
    note(record, 'bypass');
    return dispatch(sent, handler);
  });

  /** `may-wait`: for somebody else's fetch. `waited`: it did, and might find what that brought. `alone`: it fetches for itself. */
  function answer(
    dispatch: Dispatch,
    sent: DispatchOptions,
    handler: DispatchHandler,
    record: Exchange,
    asked: Asked,
    how: 'may-wait' | 'waited' | 'alone',
  ): boolean {
    const now = Date.now();
    const { resource, lane, directives, credentials, method } = asked;
    const entry = store.find(resource, lane, sent.headers, ({ freshness }) => !credentials || freshness.shareable);
    const usable = entry === null ? 'stale' : usability(entry.freshness, directives, now);
    if (entry !== null && usable !== 'stale') {
      if (usable === 'while-revalidating') validateBehind(sent, record, asked, entry);
      const left = Math.floor((entry.freshness.lifetimeMs - ageMs(entry.freshness, now)) / 1_000);
      const says = how === 'waited' ? 'fwd=miss; collapsed' : `hit; ttl=${left}`;
      use(entry, sent, handler, record, how === 'waited' ? 'collapsed' : usable === 'fresh' ? 'hit' : 'stale', says);
      return true;
    }
    if (directives.has('only-if-cached')) {
      note(record, 'bypass');
      handler.onResponseError?.(
        null,
        new SelvedgeError('SLV_NOT_CACHED', 'the client wants no other answer than a stored one'),
      );
      return true;
    }
    const name = JSON.stringify([resource, lane, credentials]);
    const own =
      directives.has('no-cache') || directives.has('max-age') || (entry === null && isConditional(sent.headers));
    const alone = how !== 'may-wait' || own || method !== 'GET' || settings.collapseMs === 0 || store.passes(name, now);
    const ahead = alone ? undefined : flights.get(name);
    if (ahead !== undefined) {
      ahead.wait(handler, settings.collapseMs, (landing) => {
        // Nobody else waits for one that takes so long.
        if (landing === 'late' && flights.get(name) === ahead) flights.delete(name);
        answer(dispatch, sent, handler, record, asked, AFTER[landing]);
      });
      return true;
    }
    const flight = new Flight(resource, (landing) => {
      if (flights.get(flightName) === flight) flights.delete(flightName);
      if (landing === 'pass' && !alone) store.pass(name, Date.now());
    });
    // One that nobody waits for is known too: an unsafe method dooms it.
    const flightName = alone ? `${name} ${record.id}` : name;
    flights.set(flightName, flight);
    const validators = entry === null ? null : withValidators(sent.headers, entry.headers);
    const upstream = validators === null ? sent : { ...sent, headers: validators };
    const why = entry === null ? 'miss' : own ? 'request' : 'stale';
    const outcome: FetchOutcome = {
      serve: (found, result) =>
        use(
          found,
          sent,
          handler,
          record,
          result,
          `fwd=${why}; ${result === 'validated' ? 'fwd-status=304' : 'detail=stale-if-error'}`,
        ),
      passing(status, stored) {
        note(record, 'miss');
        return says(`fwd=${why}; fwd-status=${status}${stored ? '; stored' : ''}`);
      },
    };
    const request = { asked, options: sent, entry, validating: validators !== null, flight };
    try {
      return dispatch(upstream, new Fetching(store, settings, request, handler, outcome));
    } catch (error) {
      flight.settle('pass');
      throw error;
    }
  }

  function use(
    entry: Entry,
    sent: DispatchOptions,
    handler: DispatchHandler,
    record: Exchange,
    result: CacheResult,
    status: string,
  ): void {
    store.used(entry);
    note(record, result);
    serve(entry, sent, handler, says(status), Date.now());
  }

  /** RFC 5861 section 3. The request is the plugin's own: the one that found it stale is answered and over. */
  function validateBehind(sent: DispatchOptions, record: Exchange, asked: Asked, entry: Entry): void {
    const name = JSON.stringify([asked.resource, asked.lane, asked.credentials]);
    if (behind >= MOST_BEHIND || flights.has(name)) return;
    behind += 1;
    const flight = new Flight(asked.resource, () => {
      behind -= 1;
      flights.delete(name);
    });
    flights.set(name, flight);
    const { path, headers } = sent;
    const validators = withValidators(headers, entry.headers);
    const get: Asked = { ...asked, method: 'GET' };
    const request = { asked: get, options: sent, entry, validating: validators !== null, flight };
    const fetching = new Fetching(store, settings, request, new Unheard(settings.maxEntryBytes), {
      serve: () => {},
      passing: () => null,
    });
    const own = {
      method: 'GET',
      path,
      headers: validators ?? headers,
      body: null,
      contentLength: null,
      timeoutMs: BEHIND_TIMEOUT_MS,
    };
    app.upstream.send(calledService(sent), record.subset, own, fetching);
  }

  function forget(resource: string): void {
    store.invalidate(resource);
    for (const flight of flights.values()) if (flight.resource === resource) flight.doomed = true;
  }

  function note(record: Exchange, result: CacheResult): void {
    record.cache = result;
    figures.count(result);
  }

  function says(status: string): string | null {
    return options.status ? `selvedge; ${status}` : null;
  }
});

/** How a request that waited goes on. */
const AFTER = { stored: 'waited', pass: 'alone', late: 'alone', left: 'may-wait' } as const;

/** RFC 9110 section 9.2.1; others change what they are sent to. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND', 'REPORT', 'SEARCH', 'QUERY']);

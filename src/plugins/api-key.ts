// Lets in who shows a key of the list. Only hashes of keys are kept, and no key goes further than here.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import { cookieCount, cookieValue, withoutCookie } from '../http/cookies.ts';
import { queryValues } from '../http/query.ts';
import { Counter, definePlugin, SelvedgeError, Type } from '../plugin.ts';
import { readList } from './credential-list.ts';
import { headerNameProblems } from './identity-header.ts';
import { collectInto, SeriesBudget, SeriesTable, tally } from './series.ts';

const TOTAL = 'selvedge_api_key_total';
const LABELS = ['owner', 'key', 'result'] as const;
/** Labels come from configs, and a process may see many of those. */
const MAX_SERIES = 10_000;
const MAX_KEYS = 10_000;
/** Longer ones, and such with spaces or anything beyond ASCII, are not even hashed. */
const KEY = /^[\x21-\x7e]{1,512}$/;
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;
const SHA256 = /^[0-9a-f]{64}$/i;
/** RFC 6265 section 4.1.1. */
const COOKIE_NAME = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
const HASH_OF_NOTHING = createHash('sha256').digest('hex');

/** What a line may say of a key beside its label: `plan=gold`. */
const ATTRIBUTE = /^([A-Za-z][A-Za-z0-9_-]{0,63})=([A-Za-z0-9._@:/+-]{1,128})$/;
const MAX_ATTRIBUTES = 8;
/** These say who it is, and how that is known. */
const RESERVED: ReadonlySet<string> = new Set(['sub', 'auth']);

interface ApiKey {
  readonly label: string;
  /** `request.user` of who shows it; requests share it. */
  readonly claims: Readonly<Record<string, string>>;
  readonly digest: Buffer;
}

export default definePlugin(
  {
    name: 'api-key',
    options: Type.Object({
      keys: Type.Array(Type.String(), {
        writeOnly: true,
        minItems: 1,
        description:
          'The keys: `label sha256-of-the-key`, and after it what is known of the client, such as `plan=gold`. An item may have several, one a line, as a file has.',
      }),
      header: Type.String({ default: 'x-api-key', description: 'Request header that carries the key.' }),
      query: Type.Optional(
        Type.String({ minLength: 1, description: 'Query parameter that may carry it instead. Default: none.' }),
      ),
      cookie: Type.Optional(
        Type.String({ pattern: COOKIE_NAME, description: 'Cookie that may carry it instead. Default: none.' }),
      ),
      optional: Type.Boolean({
        default: false,
        description: 'Let requests without a key pass too. A key that is not on the list is refused all the same.',
      }),
      forward: Type.Boolean({ default: false, description: 'Send the key on to the service.' }),
      identityHeader: Type.Optional(
        Type.String({ description: 'Header that tells the service the label of the key. Default: none.' }),
      ),
    }),
    check: ({ keys, header, identityHeader }) => [
      ...readKeys(keys).problems,
      ...headerNameProblems('header', header, []),
      ...headerNameProblems('identityHeader', identityHeader, [header.toLowerCase()]),
    ],
    identityHeaders: ({ identityHeader }) => (identityHeader === undefined ? [] : [identityHeader.toLowerCase()]),
  },
  async (app, { keys, header, query, cookie, optional, forward, identityHeader }) => {
    const { owner } = app.chain;
    const keyHeader = header.toLowerCase();
    const toldIn = identityHeader?.toLowerCase();
    const known = new Map(readKeys(keys).credentials.map((key) => [key.digest.toString('latin1'), key]));
    const series = app.shared(
      'api-key metrics',
      () => makeCounters(app.metrics),
      (made) => made.dispose(),
    ).table;

    // The list of a route may have this plugin twice.
    if (!app.hasRequestDecorator('apiKey')) app.decorateRequest('apiKey', null);

    function count(key: string, result: string): void {
      series.get([owner, key, result]).pending++;
    }

    app.addHook('onRequest', (request, _reply, done) => {
      const shown = keysOf(request);
      // Before anything else is done, so that a key is not logged either when it is refused.
      if (!forward && shown.length > 0) remove(request);
      if (shown.length === 0) {
        count('', optional ? 'anonymous' : 'missing');
        if (!optional) request.selvedge.because = 'api_key_missing';
        done(optional ? undefined : refusal('no key'));
        return;
      }
      const key = shown.length === 1 ? find(shown[0]) : null;
      if (key === null) {
        count('', 'refused');
        request.selvedge.because = 'api_key_refused';
        done(refusal(shown.length === 1 ? 'a key that is not on the list' : 'several keys'));
        return;
      }
      count(key.label, 'accepted');
      if (toldIn !== undefined) request.headers[toldIn] = key.label;
      const shower = request as FastifyRequest & { apiKey: string | null; user?: unknown };
      shower.apiKey = key.label;
      shower.user ??= key.claims;
      done();
    });

    function keysOf({ headers, selvedge }: FastifyRequest): string[] {
      const inHeader = Object.hasOwn(headers, keyHeader) ? [String(headers[keyHeader])] : [];
      const cookies = cookie === undefined ? 0 : cookieCount(headers.cookie, cookie);
      // Several are refused, so what the others say does not matter.
      const inCookie = Array<string>(cookies).fill(cookieValue(headers.cookie, cookie ?? '') ?? '');
      const inQuery = query === undefined ? [] : queryValues(selvedge.query, query);
      return [...inHeader, ...inCookie, ...inQuery];
    }

    function remove({ headers, selvedge }: FastifyRequest): void {
      delete headers[keyHeader];
      if (query !== undefined) selvedge.dropQuery(query);
      if (cookie === undefined) return;
      const others = withoutCookie(headers.cookie, cookie);
      if (others === undefined) delete headers.cookie;
      else headers.cookie = others;
    }

    /** What is looked up is a hash, of which nobody can choose the beginning; so its time says nothing about the keys. */
    function find(shown: string): ApiKey | null {
      if (!KEY.test(shown)) return null;
      const digest = createHash('sha256').update(shown).digest();
      const key = known.get(digest.toString('latin1'));
      return key !== undefined && timingSafeEqual(key.digest, digest) ? key : null;
    }

    const challenge = { 'www-authenticate': `ApiKey header="${keyHeader}"` };
    function refusal(what: string): SelvedgeError {
      return new SelvedgeError('SLV_UNAUTHORIZED', `api-key: ${what}`, { headers: challenge });
    }
  },
);

function readKeys(keys: readonly string[]) {
  const labels = new Set<string>();
  const hashes = new Set<string>();
  return readList<ApiKey>('keys', keys, MAX_KEYS, (text) => {
    const [label, hash, ...attributes] = text.split(/\s+/);
    if (hash === undefined) return 'write a label, a space and the SHA-256 of the key';
    if (!LABEL.test(label)) return 'a label has up to 64 of A-Z a-z 0-9 . _ @ - and begins with a letter or digit';
    if (!SHA256.test(hash)) return 'what follows the label is no SHA-256: 64 hexadecimal digits';
    const lower = hash.toLowerCase();
    if (lower === HASH_OF_NOTHING) return `"${label}" has the SHA-256 of an empty key`;
    if (labels.has(label)) return `"${label}" is there twice: a label names one key`;
    if (hashes.has(lower)) return `"${label}" has the key of another label`;
    const claims = claimsOf(label, attributes);
    if (typeof claims === 'string') return claims;
    labels.add(label);
    hashes.add(lower);
    return { label, claims, digest: Buffer.from(lower, 'hex') };
  });
}

/** Or a sentence about what is wrong, which does not repeat an attribute: it may be a key that got there by mistake. */
function claimsOf(label: string, attributes: readonly string[]): ApiKey['claims'] | string {
  const claims: Record<string, string> = { sub: label, auth: 'api-key' };
  if (attributes.length > MAX_ATTRIBUTES) return `"${label}" has more than ${MAX_ATTRIBUTES} attributes`;
  for (const [index, attribute] of attributes.entries()) {
    const what = `attribute ${index + 1} of "${label}"`;
    const [, name, value] = ATTRIBUTE.exec(attribute) ?? [];
    if (name === undefined) return `${what} is not like plan=gold, with a value of A-Z a-z 0-9 . _ @ : / + -`;
    if (RESERVED.has(name)) return `${what} is called as what says whose key it is: call it something else`;
    if (Object.hasOwn(claims, name)) return `${what} is there twice`;
    claims[name] = value;
  }
  return Object.freeze(claims);
}

function makeCounters(registry: Registry) {
  const table = new SeriesTable(new SeriesBudget(MAX_SERIES), tally(LABELS), () => {});
  new Counter({
    name: TOTAL,
    help: 'Requests that were asked for an API key, by the label of the key and what came of it',
    labelNames: LABELS,
    registers: [registry],
    collect() {
      collectInto(this, table);
    },
  });
  return { table, dispose: () => registry.removeSingleMetric(TOTAL) };
}

// The OpenID provider as this process knows it: what it publishes about itself, and what it says when it is asked for tokens.
import { boundedText, keyUrlProblem } from '../jwt/fetch-keys.ts';
import { Refused } from './refusal.ts';

const REFRESH_MS = 600_000;
/** Nobody makes it be asked for its document more often than this while it is down. */
const COOLDOWN_MS = 1_000;
/** Requests to one provider at a time; the next is refused at once. */
const MAX_ASKING = 64;
const TOKEN = /^[\x21-\x7e]+$/;

export interface Metadata {
  readonly authorizationEndpoint: string;
  readonly tokenEndpoint: string;
  readonly endSessionEndpoint: string | null;
  readonly revocationEndpoint: string | null;
  /** RFC 9207 section 3: its answers to the browser name it. */
  readonly namesIssuer: boolean;
}

/** RFC 6749 section 5.1. */
export interface Tokens {
  readonly accessToken: string;
  readonly idToken: string | null;
  readonly refreshToken: string | null;
  readonly expiresInMs: number | null;
  /** Null: what was asked for. */
  readonly scope: string | null;
}

export interface ProviderOptions {
  readonly issuer: string;
  readonly timeoutMs: number;
  readonly now?: () => number;
  /** After each fetch of its document; null: it went well. `changed`: it was otherwise before. */
  readonly onFetched: (error: Error | null, changed: boolean) => void;
}

export class Provider {
  readonly #options: ProviderOptions;
  readonly #now: () => number;
  readonly #closed = new AbortController();
  #metadata: Metadata | null = null;
  #fetching: Promise<void> | null = null;
  #begunAt = Number.NEGATIVE_INFINITY;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #error: Error | null = null;
  #asking = 0;

  constructor(options: ProviderOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    void this.#fetch();
  }

  close(): void {
    this.#closed.abort();
  }

  /** The last that was good, also while the provider is down; rejects with Refused when there never was one. */
  async metadata(): Promise<Metadata> {
    const now = this.#now();
    const due = now - this.#fetchedAt >= REFRESH_MS && now - this.#begunAt >= COOLDOWN_MS;
    if (this.#fetching === null && due) void this.#fetch();
    if (this.#metadata === null) await this.#fetching;
    if (this.#metadata !== null) return this.#metadata;
    const why = this.#error?.message ?? 'it was not asked';
    throw new Refused(
      'provider_unavailable',
      `the discovery document of ${this.#options.issuer} is not to be had: ${why}`,
    );
  }

  /** Rejects with Refused: `code_refused` where the grant itself is no good, which no second try would change. */
  async tokens(body: URLSearchParams, headers: Headers): Promise<Tokens> {
    const { tokenEndpoint } = await this.metadata();
    const { status, text } = await this.#post(tokenEndpoint, body, headers);
    const answer = objectOf(text);
    if (status === 200 && answer !== null) return readTokens(answer);
    const { error } = answer ?? {};
    if (status < 500 && error === 'invalid_grant')
      throw new Refused('code_refused', 'the provider does not take the code or refresh token');
    const named = typeof error === 'string' && /^[a-z_]{1,40}$/.test(error) ? ` ${error}` : '';
    throw new Refused(
      status >= 500 || status === 429 ? 'provider_unavailable' : 'provider_refused',
      `the token endpoint answered ${status}${named}`,
    );
  }

  /** RFC 7009. Rejects with Refused where it did not work. */
  async revoke(endpoint: string, body: URLSearchParams, headers: Headers): Promise<void> {
    const { status } = await this.#post(endpoint, body, headers);
    if (status !== 200) throw new Refused('provider_refused', `the revocation endpoint answered ${status}`);
  }

  async #post(url: string, body: URLSearchParams, headers: Headers): Promise<{ status: number; text: string }> {
    if (this.#asking >= MAX_ASKING)
      throw new Refused('provider_busy', `${MAX_ASKING} requests to the provider are under way`);
    this.#asking++;
    headers.set('accept', 'application/json');
    try {
      const response = await fetch(url, { method: 'POST', body, headers, redirect: 'error', signal: this.#signal() });
      return { status: response.status, text: await boundedText(response) };
    } catch (error) {
      throw new Refused('provider_unavailable', `${new URL(url).origin} did not answer: ${this.#sentence(error)}`);
    } finally {
      this.#asking--;
    }
  }

  #fetch(): Promise<void> {
    this.#begunAt = this.#now();
    this.#fetching = this.#discover().then(
      (metadata) => {
        this.#metadata = metadata;
        this.#fetchedAt = this.#now();
        this.#settle(null);
      },
      (error) => this.#settle(new Error(this.#sentence(error))),
    );
    return this.#fetching;
  }

  #settle(error: Error | null): void {
    const changed = (error === null) !== (this.#error === null);
    this.#error = error;
    this.#fetching = null;
    if (!this.#closed.signal.aborted) this.#options.onFetched(error, changed);
  }

  /** OpenID Connect Discovery 1.0 section 4. */
  async #discover(): Promise<Metadata> {
    const { issuer } = this.#options;
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    const response = await fetch(url, {
      redirect: 'error',
      signal: this.#signal(),
      headers: { accept: 'application/json' },
    });
    const text = await boundedText(response);
    if (response.status !== 200) throw new Error(`it answered ${response.status}`);
    const document = objectOf(text);
    if (document === null) throw new Error('the discovery document is no JSON object');
    if (document.issuer !== issuer) throw new Error('the discovery document is about another issuer');
    return {
      authorizationEndpoint: endpoint(document, 'authorization_endpoint'),
      tokenEndpoint: endpoint(document, 'token_endpoint'),
      endSessionEndpoint: optional(document, 'end_session_endpoint'),
      revocationEndpoint: optional(document, 'revocation_endpoint'),
      namesIssuer: document.authorization_response_iss_parameter_supported === true,
    };
  }

  #signal(): AbortSignal {
    return AbortSignal.any([this.#closed.signal, AbortSignal.timeout(this.#options.timeoutMs)]);
  }

  #sentence(error: unknown): string {
    const { name, message, cause } = error as Error & { readonly cause?: { readonly code?: unknown } };
    if (name === 'TimeoutError') return `no answer within ${this.#options.timeoutMs} ms`;
    return typeof cause?.code === 'string' ? `${message} (${cause.code})` : message;
  }
}

type Document = Readonly<Record<string, unknown>>;

function objectOf(text: string): Document | null {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Document) : null;
  } catch {
    return null;
  }
}

function endpoint(document: Document, name: string): string {
  const url = document[name];
  if (typeof url !== 'string') throw new Error(`the discovery document has no "${name}"`);
  const wrong = keyUrlProblem(url, false);
  if (wrong !== null) throw new Error(`"${name}" of the discovery document: ${wrong.split(':')[0]}`);
  return url;
}

function optional(document: Document, name: string): string | null {
  return document[name] === undefined ? null : endpoint(document, name);
}

function readTokens(answer: Document): Tokens {
  const { access_token, token_type, id_token, refresh_token, expires_in, scope } = answer;
  if (!isToken(access_token) || typeof token_type !== 'string' || token_type.toLowerCase() !== 'bearer')
    throw new Refused('provider_refused', 'the token endpoint answered without a Bearer token');
  const seconds = Number(expires_in);
  return {
    accessToken: access_token,
    idToken: isToken(id_token) ? id_token : null,
    refreshToken: isToken(refresh_token) ? refresh_token : null,
    expiresInMs: expires_in !== undefined && seconds > 0 && Number.isFinite(seconds) ? seconds * 1_000 : null,
    scope: typeof scope === 'string' ? scope : null,
  };
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && TOKEN.test(value);
}

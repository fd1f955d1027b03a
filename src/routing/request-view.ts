// What a lookup reads of a request: its view, with query and cookies parsed only when a condition asks for them.

export interface RequestView {
  /** Normalised, see `normalizeHost`. */
  readonly host: string;
  /** Normalised, see `normalizePath`. */
  readonly path: string;
  /** Without `?`. */
  readonly query: string;
  readonly method: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** One lookup's memory; lives as long as the lookup. */
export class RequestFacts {
  readonly view: RequestView;
  #query: ReadonlyMap<string, string> | null = null;
  #cookies: ReadonlyMap<string, string> | null = null;

  constructor(view: RequestView) {
    this.view = view;
  }

  /** Repeated lines joined with `, ` (RFC 9110 section 5.3); undefined when the header is absent. */
  header(name: string): string | undefined {
    const value = this.view.headers[name];
    if (typeof value === 'string') return value;
    // A name such as `constructor` may find something inherited that is no header.
    return Array.isArray(value) ? value.join(', ') : undefined;
  }

  get query(): ReadonlyMap<string, string> {
    this.#query ??= parseQuery(this.view.query);
    return this.#query;
  }

  get cookies(): ReadonlyMap<string, string> {
    this.#cookies ??= parseCookies(this.view.headers.cookie);
    return this.#cookies;
  }
}

/**
 * The first value of each parameter, decoded as a form is (`+` is a space); a name or value with an invalid escape stays as written.
 * Bounded by the listener's `urlBytes`.
 */
export function parseQuery(query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  if (query === '') return parameters;
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decodeFormText(equals < 0 ? pair : pair.slice(0, equals));
    if (!parameters.has(name)) parameters.set(name, equals < 0 ? '' : decodeFormText(pair.slice(equals + 1)));
  }
  return parameters;
}

function decodeFormText(text: string): string {
  if (!text.includes('%') && !text.includes('+')) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}

/**
 * The first cookie of each name (RFC 6265 section 5.4 sends the most specific first), without surrounding quotes and not decoded.
 * Bounded by the listener's `headerBytes`.
 */
export function parseCookies(header: string | string[] | undefined): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  if (header === undefined) return cookies;
  const text = typeof header === 'string' ? header : header.join('; ');
  for (const pair of text.split(';')) {
    const equals = pair.indexOf('=');
    if (equals < 0) continue;
    const name = pair.slice(0, equals).trim();
    if (name !== '' && !cookies.has(name)) cookies.set(name, unquote(pair.slice(equals + 1).trim()));
  }
  return cookies;
}

function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
}

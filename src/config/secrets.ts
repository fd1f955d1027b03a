// Which values of a config are secret: their schema says so (`writeOnly`), or where they came from, or they are passwords in URLs.
import type { Json } from './origins.ts';
import type { Problem } from './problem.ts';
import { NOWHERE, type Position, positionOf, type SchemaNode } from './schema-position.ts';

export type { SchemaNode } from './schema-position.ts';

export const REDACTED = '[redacted]';

/** `redis://user:password@host`. */
const URL_PASSWORD = /^([a-z][a-z0-9+.-]*:\/\/[^/?#@:\s]*):([^/?#\s]*)@/i;
/** Names whose texts are secret although no schema says so: plugins from elsewhere may have none, and headers carry credentials. */
const SECRET_NAME = /(?:secret|password|passphrase|credentials?|private-?key|api-?key|token|authorization)$/i;
/** Shorter ones are left in messages: they would be found in half of all words. */
const MIN_SCRUBBED = 6;

/** Options of plugins by the name that the config has for them; undefined: not known. */
export type OptionSchemas = (written: string) => SchemaNode | undefined;

/** The value without its password, where it is a URL that has one; else null. */
export function withoutUrlPassword(value: unknown): string | null {
  return typeof value === 'string' && URL_PASSWORD.test(value) ? value.replace(URL_PASSWORD, `$1:${REDACTED}@`) : null;
}

/** Calls `found` for every scalar that the schema calls secret, at whatever depth. What does not fit the schema is passed over. */
export function eachSecret(
  schema: object,
  value: unknown,
  optionsOf: OptionSchemas,
  found: (container: object, key: string, value: unknown) => void,
): void {
  /** The same few names stand at thousands of values. */
  const secretNames = new Map<string, boolean>();
  visit(positionOf(schema as SchemaNode), value, false, false);

  function visit(position: Position, container: unknown, hidden: boolean, plugins: boolean): void {
    if (typeof container !== 'object' || container === null) return;
    const list = Array.isArray(container);
    for (const key of Object.keys(container)) {
      const inner: unknown = (container as Json)[key];
      const below = plugins ? optionsAt(list, key) : list ? position.items() : position.at(key);
      const secret = hidden || below.secret || (typeof inner === 'string' && !list && isSecretName(key));
      if (typeof inner === 'object' && inner !== null)
        visit(below, inner, secret, key === 'plugins' || (plugins && list));
      else if (secret) found(container, key, inner);
    }
  }

  /** `plugins: [{ jwt: … }]`: the list holds maps of one key, the name; below it come the options. */
  function optionsAt(list: boolean, key: string): Position {
    const schema = list ? undefined : optionsOf(key);
    return schema === undefined ? NOWHERE : positionOf(schema);
  }

  function isSecretName(key: string): boolean {
    let known = secretNames.get(key);
    if (known === undefined) {
      known = SECRET_NAME.test(key);
      secretNames.set(key, known);
    }
    return known;
  }
}

/** Texts that may be in no message. */
export class SecretTexts {
  readonly #texts = new Set<string>();

  get texts(): readonly string[] {
    return [...this.#texts];
  }

  add(value: unknown): void {
    if (typeof value !== 'string' && typeof value !== 'number') return;
    const text = String(value);
    for (const part of [text, ...text.split(/\r?\n/)]) {
      const trimmed = part.trim();
      if (trimmed.length >= MIN_SCRUBBED) this.#texts.add(trimmed);
    }
  }

  /** Passwords of the URLs in a value, at whatever depth. */
  addUrls(value: unknown): void {
    if (typeof value === 'string') {
      if (!value.includes('://')) return;
      const [, , password] = URL_PASSWORD.exec(value) ?? [];
      if (password === undefined) return;
      this.add(password);
      try {
        this.add(decodeURIComponent(password));
      } catch {}
    } else if (typeof value === 'object' && value !== null)
      for (const inner of Object.values(value)) this.addUrls(inner);
  }

  /** A sentence without any of them, however it writes them. */
  scrub(sentence: string): string {
    let scrubbed = sentence;
    // A longer one may have a shorter one in it.
    for (const text of [...this.#texts].sort((a, b) => b.length - a.length))
      for (const form of new Set([text, JSON.stringify(text).slice(1, -1), encodeURIComponent(text)]))
        scrubbed = withoutBeginnings(scrubbed.replaceAll(form, REDACTED), form);
    return scrubbed;
  }

  scrubProblem<P extends Pick<Problem, 'message' | 'path'>>(problem: P): P {
    const message = this.scrub(problem.message);
    return message === problem.message ? problem : { ...problem, message };
  }
}

/** A message that shortens a value may have cut it in the middle. */
function withoutBeginnings(sentence: string, text: string): string {
  return sentence
    .split('…')
    .map((part, index, parts) => {
      if (index === parts.length - 1) return part;
      for (let length = Math.min(text.length, part.length); length >= MIN_SCRUBBED; length -= 1)
        if (part.endsWith(text.slice(0, length))) return `${part.slice(0, -length)}${REDACTED}`;
      return part;
    })
    .join('…');
}

/** Marks by container and key: what lies there is not shown. */
export class SecretMarks {
  readonly #keys = new WeakMap<object, Set<string>>();

  add(container: object, key: string): void {
    const keys = this.#keys.get(container) ?? new Set();
    this.#keys.set(container, keys.add(key));
  }

  has(container: object, key: string | number): boolean {
    return this.#keys.get(container)?.has(String(key)) ?? false;
  }
}

export const NO_OPTIONS: OptionSchemas = () => undefined;

/** Texts of everything in a config that is secret by schema or origin, as far as it is understood. */
export function secretsOf(config: unknown, schema: object, byOrigin: Iterable<unknown>): SecretTexts {
  const texts = new SecretTexts();
  for (const value of byOrigin) texts.add(value);
  texts.addUrls(config);
  eachSecret(schema, config as Json, NO_OPTIONS, (_container, _key, value) => texts.add(value));
  return texts;
}

// The effective config as users write it, defaults included, and where each of its values came from.
import type { Place } from './model.ts';
import type { Json, Origin, Origins } from './origins.ts';

/** Where one value came from. */
export interface ValueOrigin {
  /** Null: a default. */
  readonly place: Place | null;
  /** Environment variables that it was made of. */
  readonly variables: readonly string[];
  /** What is shown instead of a secret value; null: the value itself. */
  readonly redacted: string | null;
}

export const REDACTED = '[redacted]';

/** Keys of plugin options whose values are secret wherever they were written. */
const SECRET_OPTION = /(?:secret|password|passphrase|credentials?|privatekey|api-?key|token|authorization)$/i;
/** Keys of the config itself, and options that hold hashes of secrets, whose values are secret, as paths. */
const SECRET_KEY =
  /^(?:routes\[\d+\]\.session\.secret$|mesh\.identity\.ca\.token$|telemetry\.tracing\.headers\.|.*\bplugins\[\d+\]\.(?:api-key\.keys|basic-auth\.users)\b)/;
/** `redis://user:password@host`. */
const URL_PASSWORD = /^([a-z][a-z0-9+.-]*:\/\/[^/@:\s]*):[^/@\s]*@/i;

const DEFAULT: ValueOrigin = { place: null, variables: [], redacted: null };

export class Provenance {
  readonly #config: Json;
  readonly #origins: Origins;

  constructor(config: Json, origins: Origins) {
    this.#config = config;
    this.#origins = origins;
  }

  /** The whole config in the form of `ConfigInput`, secrets replaced by `[redacted]`: what `print` and the admin API show. */
  effective(): Json {
    return this.#redact(this.#config, '', false, DEFAULT) as Json;
  }

  /** Where the value under a key or index came from. `container` is a part of `raw`. */
  of(container: object, key: string | number, inOptions: boolean): ValueOrigin {
    const origin = this.#origins.child(container, key);
    const value = (container as Json)[key];
    return describe(origin, String(key), value, inOptions);
  }

  /** The values behind `effective`, secrets included: never show them without asking `of`. */
  get raw(): Json {
    return this.#config;
  }

  /** Where a problem that a later part found belongs: the value at these keys and indexes, or the nearest above it that was written. */
  locate(steps: readonly (string | number)[]): Place | null {
    let place: Place | null = null;
    let value: unknown = this.#config;
    for (const step of steps) {
      if (typeof value !== 'object' || value === null) break;
      place = this.#origins.child(value, step)?.place ?? place;
      value = (value as Json)[step];
    }
    return place;
  }

  #redact(value: unknown, key: string, inOptions: boolean, origin: ValueOrigin): unknown {
    if (origin.redacted !== null) return origin.redacted;
    if (typeof value === 'function') return `[function ${value.name}]`;
    if (typeof value !== 'object' || value === null) return value;
    const options = inOptions || key === 'plugins';
    if (Array.isArray(value))
      return value.map((item, index) => this.#redact(item, String(index), options, this.of(value, index, options)));
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [
        name,
        this.#redact(inner, name, options, this.of(value, name, options)),
      ]),
    );
  }
}

function describe(origin: Origin | undefined, key: string, value: unknown, inOptions: boolean): ValueOrigin {
  if (origin === undefined) return DEFAULT;
  const hidden = (inOptions && SECRET_OPTION.test(key)) || SECRET_KEY.test(origin.path) || origin.secret;
  return { place: origin.place, variables: origin.variables, redacted: redaction(value, hidden) };
}

function redaction(value: unknown, hidden: boolean): string | null {
  // `api-key: false` switches a plugin off.
  if (typeof value === 'boolean' || (typeof value === 'object' && value !== null)) return null;
  if (hidden) return REDACTED;
  return typeof value === 'string' && URL_PASSWORD.test(value) ? value.replace(URL_PASSWORD, `$1:${REDACTED}@`) : null;
}

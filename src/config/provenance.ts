// The effective config as users write it, defaults included, and where each of its values came from.
import type { Place } from './model.ts';
import type { Json, OriginLookup } from './origins.ts';
import type { Problem } from './problem.ts';
import { type ProvenancePiece, packProvenance } from './provenance-pieces.ts';
import { ConfigSchema } from './schema.ts';
import {
  eachSecret,
  NO_OPTIONS,
  type OptionSchemas,
  REDACTED,
  SecretMarks,
  type SecretTexts,
  withoutUrlPassword,
} from './secrets.ts';

/** Where one value came from. */
export interface ValueOrigin {
  /** Null: a default. */
  readonly place: Place | null;
  /** Environment variables that it was made of. */
  readonly variables: readonly string[];
  /** What is shown instead of a secret value; null: the value itself. */
  readonly redacted: string | null;
}

/** What a running process asks of the config in force; `Provenance` answers, or `StoredProvenance` where a thread read the config. */
export interface LoadedProvenance {
  hide(optionsOf: OptionSchemas): void;
  scrub(problem: Problem): Problem;
  effective(): Json;
  locate(steps: readonly (string | number)[]): Place | null;
  /** As the config has it, secrets included. Of one gateway, service or route and what is in it, not of all of them. */
  valueAt(steps: readonly (string | number)[]): unknown;
}

const DEFAULT: ValueOrigin = { place: null, variables: [], redacted: null };

export class Provenance implements LoadedProvenance {
  readonly #config: Json;
  readonly #origins: OriginLookup;
  readonly #secrets: SecretTexts;
  readonly #marks = new SecretMarks();
  /** What is secret in a config whose plugins are not known is marked when somebody asks. */
  #isMarked = false;

  constructor(config: Json, origins: OriginLookup, secrets: SecretTexts) {
    this.#config = config;
    this.#origins = origins;
    this.#secrets = secrets;
  }

  /** Takes in which options of plugins are secret. */
  hide(optionsOf: OptionSchemas): void {
    this.#isMarked = true;
    eachSecret(ConfigSchema, this.#config, optionsOf, (container, key, value) => {
      this.#marks.add(container, key);
      this.#secrets.add(value);
    });
  }

  /** A problem whose message has no secret of this config in it. */
  scrub(problem: Problem): Problem {
    return this.#secrets.scrubProblem(problem);
  }

  /** The whole config in the form of `ConfigInput`, secrets replaced by `[redacted]`: what `print` and the admin API show. */
  effective(): Json {
    return this.#redact(this.#config, DEFAULT) as Json;
  }

  /** Where the value under a key or index came from. `container` is a part of `raw`. */
  of(container: object, key: string | number): ValueOrigin {
    if (!this.#isMarked) this.hide(NO_OPTIONS);
    const origin = this.#origins.child(container, key);
    const value = (container as Json)[key];
    return describe(origin, value, this.#marks.has(container, key));
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

  /** The value at these keys and indexes, as in `raw`; undefined: there is none. */
  valueAt(steps: readonly (string | number)[]): unknown {
    return steps.reduce<unknown>((value, step) => (value as Json | undefined)?.[step], this.#config);
  }

  /** To send it to another thread; see `StoredProvenance`. Of configs without code. */
  pieces(): Iterable<ProvenancePiece> {
    return packProvenance(this.#config, this.#origins);
  }

  /** Texts that no message may have. */
  get secretTexts(): readonly string[] {
    return this.#secrets.texts;
  }

  #redact(value: unknown, origin: ValueOrigin): unknown {
    if (origin.redacted !== null) return origin.redacted;
    if (typeof value === 'function') return `[function ${value.name}]`;
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) return value.map((item, index) => this.#redact(item, this.of(value, index)));
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, this.#redact(inner, this.of(value, name))]),
    );
  }
}

function describe(origin: ReturnType<OriginLookup['child']>, value: unknown, marked: boolean): ValueOrigin {
  if (origin === undefined) return DEFAULT;
  const hidden = marked || origin.secret;
  return { place: origin.place, variables: origin.variables, redacted: redaction(value, hidden) };
}

function redaction(value: unknown, hidden: boolean): string | null {
  // `api-key: false` switches a plugin off.
  if (typeof value === 'boolean' || (typeof value === 'object' && value !== null)) return null;
  return hidden ? REDACTED : withoutUrlPassword(value);
}

// The provenance of a config that another thread has read. It is bytes until somebody asks: for a problem with a plugin, or by the admin API.
import type { Config, Place } from './model.ts';
import type { Json } from './origins.ts';
import type { Problem } from './problem.ts';
import { type LoadedProvenance, Provenance } from './provenance.ts';
import { type ProvenancePiece, type StoredOrigins, unpack } from './provenance-pieces.ts';
import { eachSecret, NO_OPTIONS, type OptionSchemas, SecretTexts } from './secrets.ts';

type Steps = readonly (string | number)[];

export class StoredProvenance implements LoadedProvenance {
  readonly #pieces: readonly ProvenancePiece[];
  readonly #texts: readonly string[];
  readonly #config: Config | null;
  #optionsOf: OptionSchemas = NO_OPTIONS;
  #secrets: SecretTexts | null = null;

  /** `texts`: secrets that are known without the schemas of plugins. */
  constructor(pieces: readonly ProvenancePiece[], texts: readonly string[], config: Config | null) {
    this.#pieces = pieces;
    this.#texts = texts;
    this.#config = config;
  }

  hide(optionsOf: OptionSchemas): void {
    this.#optionsOf = optionsOf;
    this.#secrets = null;
  }

  scrub(problem: Problem): Problem {
    this.#secrets ??= this.#everySecret();
    return this.#secrets.scrubProblem(problem);
  }

  /** Reads everything: linear in the size of the config. */
  effective(): Json {
    const origins: StoredOrigins = new Map();
    let config: Json = {};
    for (const piece of this.#pieces) {
      const value = unpack(piece, origins);
      if (piece.part === null) config = value;
      else {
        const whole = config[piece.part] as Json;
        const children = origins.get(whole);
        for (const key of Object.keys(value)) {
          const at = piece.names === null ? String(piece.first + Number(key)) : key;
          whole[at] = value[key];
          const origin = origins.get(value)?.get(key);
          if (origin !== undefined) children?.set(at, origin);
        }
      }
    }
    const child = (container: object, key: string | number) => origins.get(container)?.get(String(key));
    const provenance = new Provenance(config, { child }, new SecretTexts());
    provenance.hide(this.#optionsOf);
    return provenance.effective();
  }

  locate(steps: Steps): Place | null {
    return this.#find(steps).place;
  }

  valueAt(steps: Steps): unknown {
    return this.#find(steps).value;
  }

  /** Reads the config around the large parts, and of those the one piece that is asked for. */
  #find(steps: Steps): { readonly value: unknown; readonly place: Place | null } {
    const origins: StoredOrigins = new Map();
    let place: Place | null = null;
    let value: unknown;
    for (const [depth, step] of steps.entries()) {
      const piece =
        depth === 0 ? this.#pieces.find(({ part }) => part === null) : depth === 1 ? this.#pieceOf(steps) : null;
      if (piece != null) value = unpack(piece, origins);
      if (typeof value !== 'object' || value === null) return { value: undefined, place };
      const key = piece != null && piece.names === null && piece.part !== null ? Number(step) - piece.first : step;
      place = origins.get(value)?.get(String(key))?.place ?? place;
      value = (value as Json)[key];
    }
    return { value, place };
  }

  #pieceOf([part, item]: Steps): ProvenancePiece | undefined {
    return this.#pieces
      .filter((piece) => piece.part === part)
      .findLast(({ names, first }) => (names === null ? first <= Number(item) : names.includes(String(item))));
  }

  #everySecret(): SecretTexts {
    const secrets = new SecretTexts();
    for (const text of this.#texts) secrets.add(text);
    const { gateways = [], services = [], routes = [] } = this.#config ?? {};
    const owners = [...gateways, ...gateways.flatMap(({ listeners }) => listeners), ...services, ...routes];
    for (const use of owners.flatMap(({ plugins }) => plugins)) {
      const schema = 'off' in use ? undefined : this.#optionsOf(use.written);
      if (schema !== undefined && 'options' in use)
        eachSecret(schema, use.options, NO_OPTIONS, (_container, _key, value) => secrets.add(value));
    }
    return secrets;
  }
}

// What would have been denied under audit for want of an allow policy, in bounded memory: what `selvedge authz suggest` makes policies of.
import { normalizePath } from '../http/path.ts';
import { otherReading } from '../http/path-readings.ts';
import { DEFAULT_DENY } from './authorization.ts';
import { type SeenPath, SeenPaths } from './seen-paths.ts';

/** Key under which the plugin shares it with the rest of the process. */
export const SEEN_REQUESTS = 'authorization seen requests';

/** Callers of all targets together; what others asked is only counted. */
const MAX_CALLERS = 1_000;
/** Parts of paths of all callers together. */
const MAX_PARTS = 50_000;
/** Statuses by which a service says that there is nothing to allow. */
const REFUSED = new Set([400, 401, 403, 404, 405]);

export interface SeenRequest {
  /** `service orders`. */
  readonly target: string;
  /** SPIFFE id; null: without an identity. */
  readonly caller: string | null;
  readonly method: string;
  readonly path: string;
  /** What was answered in the end. */
  readonly status: number;
  /** What would have denied it. */
  readonly policy: string | null;
}

/** Of one service or gateway, as JSON can carry it. */
export interface SeenTarget {
  readonly target: string;
  readonly callers: readonly {
    readonly caller: string | null;
    readonly paths: readonly (Omit<SeenPath, 'methods'> & { readonly methods: Readonly<Record<string, number>> })[];
  }[];
  /** Why no policy should come of requests → how many. */
  readonly unusable: Readonly<Record<string, number>>;
}

interface Kept {
  readonly callers: Map<string | null, SeenPaths>;
  readonly unusable: Map<string, number>;
}

export class SeenRequests {
  /** By target: as many as the config has. */
  readonly #targets = new Map<string, Kept>();
  readonly #budget = { left: MAX_PARTS };
  #callers = 0;

  add(seen: SeenRequest): void {
    let kept = this.#targets.get(seen.target);
    if (kept === undefined) {
      kept = { callers: new Map(), unusable: new Map() };
      this.#targets.set(seen.target, kept);
    }
    let why = unusable(seen);
    const paths = why === null ? this.#pathsOf(kept, seen.caller) : null;
    if (paths !== null) {
      paths.add(seen.path, seen.method);
      return;
    }
    why ??= `their callers are beyond the first ${MAX_CALLERS}`;
    kept.unusable.set(why, (kept.unusable.get(why) ?? 0) + 1);
  }

  #pathsOf({ callers }: Kept, caller: string | null): SeenPaths | null {
    const known = callers.get(caller);
    if (known !== undefined || this.#callers >= MAX_CALLERS) return known ?? null;
    this.#callers += 1;
    const made = new SeenPaths(this.#budget);
    callers.set(caller, made);
    return made;
  }

  list(): SeenTarget[] {
    return [...this.#targets].map(([target, kept]) => {
      const leftOut = [...kept.callers.values()].reduce((sum, paths) => sum + paths.leftOut, 0);
      const callers = [...kept.callers].map(([caller, seen]) => ({
        caller,
        paths: seen.list().map(({ kind, value, methods }) => ({ kind, value, methods: Object.fromEntries(methods) })),
      }));
      return {
        target,
        callers: callers.filter(({ paths }) => paths.length > 0),
        unusable: {
          ...Object.fromEntries(kept.unusable),
          ...(leftOut > 0 ? { 'there was no room for their paths': leftOut } : {}),
        },
      };
    });
  }
}

function unusable({ policy, status, path }: SeenRequest): string | null {
  if (policy?.startsWith(DEFAULT_DENY) !== true) return 'a deny policy under audit would deny them';
  if (REFUSED.has(status)) return 'the service itself refused them (400, 401, 403, 404, 405)';
  if (normalizePath(path)?.path !== path) return 'their path is cut off or malformed';
  return otherReading(path) === null ? null : 'services may read their path in two ways';
}

// Whether one authorization rule holds wherever another does: what makes a rule dead, said only where it is certain.
import type {
  AuthorizationConditions,
  AuthorizationRule,
  PathPattern,
  ValuePattern,
} from '../policies/authorization.ts';

/** True: every request that meets `inner` meets `outer` too. */
export function covers(outer: AuthorizationRule, inner: AuthorizationConditions): boolean {
  return (
    outer.not === null &&
    each(outer.from, inner.from, callerCovers) &&
    each(outer.methods, inner.methods, (a, b) => a === b) &&
    each(outer.paths, inner.paths, pathCovers) &&
    each(outer.hosts, inner.hosts, hostCovers) &&
    each(outer.clientAddress, inner.clientAddress, (a, b) => a === b) &&
    outer.headers.every((wanted) => inner.headers.some((given) => sameValue(wanted, given))) &&
    outer.claims.every((wanted) => inner.claims.some((given) => sameValue(wanted, given)))
  );
}

function each<T>(
  outer: readonly T[] | null,
  inner: readonly T[] | null,
  holds: (outer: T, inner: T) => boolean,
): boolean {
  if (outer === null) return true;
  return inner?.every((part) => outer.some((whole) => holds(whole, part))) ?? false;
}

function callerCovers(outer: string, inner: string): boolean {
  return outer === inner || (outer.endsWith('/*') && inner.startsWith(outer.slice(0, -1)));
}

function hostCovers(outer: string, inner: string): boolean {
  return outer === inner || (outer.startsWith('*.') && inner.length > outer.length && inner.endsWith(outer.slice(1)));
}

function sameValue(a: ValuePattern, b: ValuePattern): boolean {
  return (
    a.name === b.name && ((a.kind === b.kind && a.value === b.value) || (a.kind === 'present' && b.kind !== 'absent'))
  );
}

export function pathCovers(outer: PathPattern, inner: PathPattern): boolean {
  if (outer.kind === 'prefix' && outer.value === '/') return true;
  if (outer.kind !== 'prefix' || inner.kind === 'regex')
    return outer.kind === inner.kind && outer.value === inner.value;
  return inner.value === outer.value || inner.value.startsWith(`${outer.value}/`);
}

/** False only when no path can meet both. */
export function pathsMeet(a: PathPattern, b: PathPattern): boolean {
  if (a.kind === 'regex' || b.kind === 'regex') return true;
  if (a.kind === 'exact' && b.kind === 'exact') return a.value === b.value;
  return pathCovers(a, b) || pathCovers(b, a);
}

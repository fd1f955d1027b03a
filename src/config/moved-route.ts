// A route of which nothing has changed but the lines that it stands in.
import type { Place, RouteConfig } from './model.ts';

/** The same route so many lines further down. */
export function movedRoute(route: RouteConfig, lines: number): RouteConfig {
  if (lines === 0) return route;
  const { action, rollout } = route;
  const move = <T extends Placed>(value: T): T => Object.freeze({ ...value, at: placeBelow(value.at, lines) });
  const moveAll = <T extends Placed>(values: readonly T[]): readonly T[] => Object.freeze(values.map(move));
  return move({
    ...route,
    matches: moveAll(route.matches),
    plugins: moveAll(route.plugins),
    action: action.kind === 'forward' ? Object.freeze({ ...action, backends: moveAll(action.backends) }) : action,
    rollout: rollout === null ? null : move(rollout),
  });
}

interface Placed {
  readonly at: Place;
}

function placeBelow({ file, line, column }: Place, lines: number): Place {
  return Object.freeze({ file, line: line + lines, column });
}

// One thing that is wrong with a config: what `check`, `run` and a reload report, always all of them at once.
import type { Place } from './model.ts';

export interface Problem {
  /** Warnings never stop a config from being used. */
  readonly severity: 'error' | 'warning';
  /** Null: about the config as a whole. */
  readonly place: Place | null;
  /** `routes[3].to[0].service`. */
  readonly path: string;
  /** What is wrong and what to do, one sentence without a full stop: `no service "ordrs" (did you mean "orders"?)`. */
  readonly message: string;
}

/** `config/shop.yaml:41:11`, or the file alone where the line is unknown. */
export function formatPlace({ file, line, column }: Place): string {
  return line > 0 ? `${file}:${line}:${column}` : file;
}

/** `config/shop.yaml:41:11 routes[3].to[0].service: no service "ordrs" (did you mean "orders"?)`. */
export function formatProblem(problem: Problem): string {
  const { place, path, message } = problem;
  const at = place === null ? '' : `${formatPlace(place)} `;
  const what = path === '' ? '' : `${path}: `;
  const warning = problem.severity === 'warning' ? 'warning: ' : '';
  return `${at}${warning}${what}${message}`;
}

/** Whether any of them stops a config from being used. */
export function hasErrors(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}

/** By file and position, as an editor lists them; what has no line comes first. */
export function inOrder(problems: readonly Problem[]): Problem[] {
  const key = ({ place }: Problem): readonly [string, number, number] => [
    place?.file ?? '',
    place?.line ?? 0,
    place?.column ?? 0,
  ];
  return [...problems].sort((a, b) => {
    const [fileA, lineA, columnA] = key(a);
    const [fileB, lineB, columnB] = key(b);
    return fileA < fileB ? -1 : fileA > fileB ? 1 : lineA - lineB || columnA - columnB;
  });
}

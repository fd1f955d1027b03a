// What the config format has words for and this version does not do: refused at its place, so that nobody relies on what is not there.
import type { Json, Origins } from './origins.ts';
import type { Problem } from './problem.ts';

/** A path of the format; `*` stands for any name or index. With `values` only those are refused. */
interface Unsupported {
  readonly path: string;
  readonly values?: (value: unknown) => boolean;
}

const oneOf =
  (...names: readonly string[]) =>
  (value: unknown): boolean =>
    (typeof value === 'string' && names.includes(value)) ||
    (isMap(value) && Object.keys(value).some((key) => names.includes(key)));

const keys = (prefix: string, names: string): Unsupported[] =>
  names.split(' ').map((name) => ({ path: prefix === '' ? name : `${prefix}.${name}` }));

const UNSUPPORTED: readonly Unsupported[] = [
  ...keys('', 'etcd'),
  ...keys('telemetry.metrics', 'exemplars'),
  ...keys('gateways.*.limits', 'http2'),
  ...keys('gateways.*.listeners.*', 'proxyProtocol'),
  { path: 'gateways.*.listeners.*.protocol' },
  ...keys('gateways.*.listeners.*.limits', 'http2'),
  ...keys('gateways.*.listeners.*.tls.certificates.*', 'acme'),
  ...keys('services.*', 'discover locked'),
  { path: 'services.*.protocol', values: oneOf('h2', 'grpc', 'auto') },
  ...keys('routes.*', 'priority locked'),
  ...keys('routes.*.match.*', 'from'),
];

/** Reports every such key and takes it out of `config`, so that the rest is still checked. */
export function refuseUnsupported(config: unknown, origins: Origins): Problem[] {
  const problems: Problem[] = [];
  for (const { path, values } of UNSUPPORTED) visit(config, path.split('.'), values, origins, problems);
  return problems;
}

function visit(
  container: unknown,
  [step, ...rest]: readonly string[],
  values: Unsupported['values'],
  origins: Origins,
  problems: Problem[],
): void {
  if (typeof container !== 'object' || container === null) return;
  const steps = step === '*' ? Object.keys(container) : Object.hasOwn(container, step) ? [step] : [];
  for (const key of steps) {
    const value = (container as Json)[key];
    if (rest.length > 0) {
      visit(value, rest, values, origins, problems);
      continue;
    }
    if (values !== undefined && !values(value)) continue;
    const origin = origins.child(container, key);
    // `false`: the user does not want what is not there.
    if (values === undefined && value === false) {
      origins.remove(container, key);
      continue;
    }
    const what = values === undefined ? '' : `${JSON.stringify(isMap(value) ? Object.keys(value)[0] : value)} is `;
    const place = (values === undefined ? origin?.keyPlace : origin?.place) ?? null;
    problems.push({
      severity: 'error',
      place,
      path: origin?.path ?? '',
      message: `${what}not supported by this version`,
    });
    origins.remove(container, key);
  }
}

function isMap(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

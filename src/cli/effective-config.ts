// The effective config as a tree of values with their origins, or the part of it that one route or role reads.
import type { Config } from '../config/model.ts';
import type { Provenance, ValueOrigin } from '../config/provenance.ts';
import { didYouMean } from '../config/suggest.ts';
import { UsageError } from './command.ts';

export interface Annotated {
  /** Key in the map above it; null for items of lists and the root. */
  readonly key: string | null;
  readonly origin: ValueOrigin;
  /** A scalar as it is shown; undefined where `parts` says more. */
  readonly scalar: unknown;
  readonly parts: { readonly list: boolean; readonly items: readonly Annotated[] } | null;
}

export interface Selection {
  readonly gateways: ReadonlySet<string>;
  readonly services: ReadonlySet<string>;
  readonly routes: ReadonlySet<string>;
  /** Whether what belongs to neither of them (admin, telemetry …) is included. */
  readonly others: boolean;
}

/** Null: everything. */
export function annotate(provenance: Provenance, selection: Selection | null): Annotated {
  const { raw } = provenance;
  const root: ValueOrigin = { place: null, variables: [], redacted: null };
  const tree = visit(provenance, null, raw, root);
  return selection === null ? tree : select(tree, selection);
}

function visit(provenance: Provenance, key: string | null, value: unknown, origin: ValueOrigin): Annotated {
  if (origin.redacted !== null) return { key, origin, scalar: origin.redacted, parts: null };
  if (typeof value === 'function') return { key, origin, scalar: '[function]', parts: null };
  if (typeof value !== 'object' || value === null) return { key, origin, scalar: value, parts: null };
  const list = Array.isArray(value);
  const items = Object.entries(value).map(([name, inner]) =>
    visit(provenance, list ? null : name, inner, provenance.of(value, name)),
  );
  return { key, origin, scalar: undefined, parts: { list, items } };
}

function select(tree: Annotated, { gateways, services, routes, others }: Selection): Annotated {
  const items = (tree.parts?.items ?? []).flatMap((part): Annotated[] => {
    switch (part.key) {
      case 'gateways':
        return keep(part, ({ key }) => gateways.has(key ?? ''));
      case 'services':
        return keep(part, ({ key }) => services.has(key ?? ''));
      case 'routes':
        return keep(part, (route) => routes.has(nameOf(route)));
      default:
        return others ? [part] : [];
    }
  });
  return { ...tree, parts: { list: false, items } };
}

function keep(part: Annotated, wanted: (item: Annotated) => boolean): Annotated[] {
  const items = (part.parts?.items ?? []).filter(wanted);
  return items.length === 0 ? [] : [{ ...part, parts: { list: part.parts?.list === true, items } }];
}

function nameOf(route: Annotated): string {
  return String(route.parts?.items.find(({ key }) => key === 'name')?.scalar);
}

/** What `--gateway NAME` or `--internal NAME` of `selvedge run` would read. Throws UsageError for a role that is not there. */
export function roleSelection(role: string, config: Config): Selection {
  const [kind, name = ''] = role.split(/\/(.*)/s, 2);
  if (kind !== 'gateway' && kind !== 'internal')
    throw new UsageError(`"${role}" is no role: write gateway/NAME or internal/SERVICE`);
  const hops = config.services.filter(({ internal }) => internal !== null).map((service) => service.name);
  const known = kind === 'gateway' ? config.gateways.map((gateway) => gateway.name) : hops;
  if (!known.includes(name))
    throw new UsageError(`no role "${role}"${didYouMean(name, known).replace('"', `"${kind}/`)}`);
  const routes = config.routes.filter((route) =>
    kind === 'gateway' ? route.gateways.includes(name) : route.internal.length > 0,
  );
  const reached = routes.flatMap(({ action, plugins }) => [
    ...(action.kind === 'forward' ? action.backends.map(({ service }) => service) : []),
    ...plugins.flatMap((plugin) => ('name' in plugin && plugin.name === 'mirror' ? mirrored(plugin.options) : [])),
  ]);
  // A hop reaches every service by its name.
  const services = kind === 'gateway' ? reached : config.services.map((service) => service.name);
  return {
    gateways: new Set(kind === 'gateway' ? [name] : []),
    services: new Set(services),
    routes: new Set(routes.map((route) => route.name)),
    others: true,
  };
}

/** Options that nobody has checked may be anything. */
function mirrored({ to }: Readonly<Record<string, unknown>>): string[] {
  const targets = Array.isArray(to) ? (to as { readonly service?: unknown }[]) : [];
  return targets.flatMap((target) => (typeof target?.service === 'string' ? [target.service] : []));
}

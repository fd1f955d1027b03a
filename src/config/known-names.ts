// The names that a config defines, gathered before validation: a service with a mistake in it still exists.

export interface KnownNames {
  /** Service → its subsets. */
  readonly services: ReadonlyMap<string, ReadonlySet<string>>;
  /** Gateway → its listeners. */
  readonly gateways: ReadonlyMap<string, ReadonlySet<string>>;
}

export function knownNames(config: unknown): KnownNames {
  return {
    services: new Map(
      entriesOf(part(config, 'services')).map(([name, service]) => [name, new Set(keysOf(part(service, 'subsets')))]),
    ),
    gateways: new Map(entriesOf(part(config, 'gateways')).map(([name, gateway]) => [name, listenersOf(gateway)])),
  };
}

function listenersOf(gateway: unknown): Set<string> {
  const listeners = part(gateway, 'listeners');
  const names = Array.isArray(listeners) ? listeners.map((listener) => part(listener, 'name')) : [];
  return new Set(names.filter((name) => typeof name === 'string'));
}

function part(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

function keysOf(value: unknown): string[] {
  return entriesOf(value).map(([key]) => key);
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
}

// What a service with `protocol: tcp` cannot have, because it is about requests: refused at its place, so that nobody relies on it.
import { parseHostPort } from '../http/address.ts';
import type { AuthorizationConditions } from '../policies/authorization.ts';
import { httpConditions } from '../policies/authorization-tcp.ts';
import type { CompleteConfig, CompleteRoute, CompleteService } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { AuthorizationPolicy, Config, ServiceConfig } from './model.ts';
import type { ConditionsInput } from './resolve-authorization.ts';

const OF_REQUESTS = ['subsets', 'plugins', 'concurrency', 'retryBudget'] as const;
const OF_REQUESTS_IN_CONNECTIONS = ['pending', 'requests', 'retries', 'waitForEndpoint'] as const;

export function checkTcp(written: Cursor<CompleteConfig>, config: Config, incomplete: boolean): void {
  const tcp = new Map(config.services.filter(({ protocol }) => protocol === 'tcp').map((one) => [one.name, one]));
  if (tcp.size === 0) return;
  for (const [name, service] of written.at('services').filled().entries()) {
    const resolved = tcp.get(name);
    if (resolved === undefined) continue;
    checkKeys(service);
    checkHop(service, resolved);
    const reachable = config.services.some(({ internal }) =>
      internal?.outbound?.ports.some((port) => port.service === name),
    );
    if (!reachable && !incomplete)
      service.warnKey(
        `no hop has a local port ("internal.outbound.ports") for "${name}", so no application reaches it`,
      );
  }
  for (const route of written.at('routes').filled().items()) checkRoute(route, tcp);
}

function checkKeys(service: Cursor<CompleteService>): void {
  for (const key of OF_REQUESTS) if (service.wrote(key)) refuse(service.at(key), key);
  const connections = service.at('connections').filled();
  for (const key of OF_REQUESTS_IN_CONNECTIONS) if (connections.wrote(key)) refuse(connections.at(key), key);
  const check = service.at('healthCheck').given();
  if (check !== null && check.value !== false) {
    const probe = check as Cursor<Exclude<typeof check.value, false>>;
    for (const key of ['http', 'grpc'] as const)
      probe.at(key).given()?.error(`this service speaks TCP ("protocol: tcp"): check it by "tcp: {}"`);
  }
  const balancing = service.at('loadBalancing').filled();
  if (typeof balancing.value !== 'string') {
    for (const [algorithm, key] of balancing.entries()) {
      for (const [kind, value] of (key as Cursor<Record<string, unknown>>).entries())
        if (kind !== 'clientAddress')
          value.error(`a connection has no ${kind}: with "protocol: tcp", ${algorithm} goes by "clientAddress" alone`);
    }
  }
}

function refuse(at: Cursor<unknown>, key: string): void {
  at.error(`"${key}" is about requests, and this service speaks TCP ("protocol: tcp"): leave it out`);
}

const LOOPBACK = /^(?:127\.|::1$|localhost$)/;

/** HTTP tells its hops apart by a header; a connection that comes back to where it was would do so until there are no more. */
function checkHop(service: Cursor<CompleteService>, { internal }: ServiceConfig): void {
  if (internal === null) return;
  const { inbound, apps } = internal;
  for (const app of apps) {
    const parsed = parseHostPort(app);
    if (parsed === null || parsed.port !== inbound.port) continue;
    const everywhere = inbound.host === '0.0.0.0' || inbound.host === '::';
    if (parsed.host === inbound.host || (everywhere && LOOPBACK.test(parsed.host)))
      service
        .at('internal')
        .filled()
        .error(`the application at ${app} is this hop itself: connections would go round in circles`);
  }
}

function checkRoute(route: Cursor<CompleteRoute>, tcp: ReadonlyMap<string, unknown>): void {
  const named: [Cursor<unknown>, string][] = [
    ...route
      .at('to')
      .items()
      .map((to): [Cursor<unknown>, string] => [to, (to.value as { service: string }).service]),
    ...route
      .at('internal')
      .items()
      .map((service): [Cursor<unknown>, string] => [service, service.value as string]),
  ];
  for (const [at, name] of named) {
    if (tcp.has(name))
      at.error(
        `service "${name}" speaks TCP, and routes are for HTTP: applications reach it by a local port of their hop ("internal.outbound.ports")`,
      );
  }
}

/** Conditions that a connection can never meet: an error where the policy is for that service alone. */
export function checkTcpConditions(
  written: Cursor<ConditionsInput>,
  known: AuthorizationConditions,
  { target, effect }: AuthorizationPolicy,
  { services }: Config,
): void {
  if (target.kind !== 'service') return;
  const tcp = services.filter(
    ({ name, protocol }) => protocol === 'tcp' && (target.name === '*' || name === target.name),
  );
  if (tcp.length === 0) return;
  const names = tcp.map(({ name }) => `"${name}"`).join(', ');
  for (const key of httpConditions(known)) {
    const at = written.at(key);
    if (target.name !== '*') {
      at.error(
        `is about requests, and ${names} speaks TCP: a connection is judged by "from" and "clientAddress" alone`,
      );
    } else if (written.path.endsWith('.not') && effect === 'deny') {
      at.warn(`makes no exception for connections to ${names}, which have no ${key}`);
    } else {
      at.warn(`never holds for connections to ${names}, which have no ${key}`);
    }
  }
}

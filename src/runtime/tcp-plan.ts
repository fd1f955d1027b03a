// At compile time: what one listener that speaks no HTTP leads to.
import { policiesFor } from '../config/authorization-use.ts';
import type { Config } from '../config/model.ts';
import { plainCallers } from '../internal/internal.ts';
import { compileAuthorization } from '../policies/authorization.ts';
import type { TcpPlan } from '../proxy/tcp/plan.ts';
import type { Caller } from '../upstream/caller.ts';
import type { Service } from '../upstream/service.ts';
import type { ListenerSpec } from './listener-spec.ts';

interface Reachable {
  readonly services: ReadonlyMap<string, Service>;
  /** By the service whose applications they are. */
  readonly apps: ReadonlyMap<string, Service>;
  readonly caller: Caller | null;
}

export function tcpPlan(config: Config, spec: ListenerSpec, { services, apps, caller }: Reachable): TcpPlan {
  const { accessLog } = config;
  if (spec.role !== 'inbound') {
    const service = services.get(spec.fixedService as string) as Service;
    return { service, caller, authorization: null, plainCallers: null, accessLog };
  }
  const { owner } = spec;
  const policies = policiesFor(config, 'service', owner);
  return {
    service: apps.get(owner) as Service,
    caller: null,
    authorization: policies.length === 0 ? null : compileAuthorization(`service ${owner}`, policies),
    plainCallers: spec.mesh?.mode === 'permissive' ? plainCallers(config.services) : null,
    accessLog,
  };
}

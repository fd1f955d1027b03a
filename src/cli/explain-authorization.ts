// What `selvedge explain` says of the policies that a request meets on its way: at its gateway, and at the hop of the service that it goes to.
import { policiesFor } from '../config/authorization-use.ts';
import type { Config } from '../config/model.ts';
import { parseAuthority } from '../http/authority.ts';
import { gatewayId, serviceId } from '../identity/spiffe-id.ts';
import { compileAuthorization, explainAuthorization } from '../policies/authorization.ts';
import type { AskedRequest, ExplainedVerdict, Explanation } from '../routing/explanation.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';

/** `explanation` with a verdict for each target that has policies. Client address and claims are nobody's here: `selvedge authz` takes them. */
export function withAuthorization(
  explanation: Explanation,
  config: Config,
  { role, owner }: ListenerSpec,
  asked: AskedRequest,
): Explanation {
  const { request, route } = explanation;
  if (route === null || request.host === null || request.path === null) return explanation;
  const { host, path } = request;
  const verdicts: ExplainedVerdict[] = [];
  const judge = (
    kind: 'gateway' | 'service',
    name: string,
    caller: string | null,
    as: { path: string; host: string },
  ) => {
    const policies = policiesFor(config, kind, name);
    if (policies.length === 0) return;
    const target = `${kind} ${name}`;
    const { verdict } = explainAuthorization(compileAuthorization(target, policies), {
      peer: caller === null ? null : { id: caller, trustDomain: config.mesh.trustDomain },
      method: asked.method,
      headers: asked.headers,
      claims: null,
      clientAddress: '',
      ...as,
    });
    verdicts.push({ target, caller, verdict: verdict.verdict, policy: verdict.policy });
  };
  if (role === 'gateway') judge('gateway', owner, null, { path, host });
  if (role === 'inbound') judge('service', owner, null, { path, host });
  else if (route.action.kind === 'forward') {
    const { trustDomain } = config.mesh;
    const caller = role === 'gateway' ? gatewayId(trustDomain, owner) : serviceId(trustDomain, owner);
    const seen = new Set<string>();
    for (const backend of route.action.backends) {
      const service = config.services.find(({ name }) => name === backend.service);
      // What goes past the hop meets no policy; subsets of one service meet the same.
      if (service === undefined || service.internal === null || seen.has(service.name)) continue;
      if (service.endpoints.every(({ hop }) => hop === null)) continue;
      seen.add(service.name);
      const [sent] = backend.path.split('?', 1);
      const as = { path: sent, host: backend.host === '' ? host : (parseAuthority(backend.host).host ?? host) };
      judge('service', service.name, service.mtls === 'off' ? null : caller, as);
    }
  }
  return verdicts.length === 0 ? explanation : { ...explanation, authorization: verdicts };
}

// What `selvedge explain` says of a call that leaves the mesh: judged by its name, offline, by the policy that the hop would ask.
import type { Config } from '../config/model.ts';
import { canonicalAddress } from '../egress/address-class.ts';
import { compileEgress } from '../egress/policy.ts';
import { parseHost } from '../http/address.ts';
import { parseAuthority } from '../http/authority.ts';
import { normalizeWrittenPath } from '../http/path.ts';
import type { AskedRequest, Explanation } from '../routing/explanation.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';

/** `explanation` as it is, unless no route took the request and the config lets calls out of the mesh. */
export function withEgress(
  explanation: Explanation,
  config: Config,
  { owner, fixedService }: ListenerSpec,
  asked: AskedRequest,
  scheme: 'http' | 'https',
): Explanation {
  const { host: written } = explanation.request;
  if (explanation.refused?.code !== 'SLV_SERVICE_NOT_FOUND' || config.egress === null) return explanation;
  if (fixedService !== null || written === null || written === '') return explanation;
  const host = parseHost(written);
  if (host === null) {
    const why = `"${written}" is no plain host name or address to call`;
    return { ...explanation, refused: { status: 400, code: 'SLV_BAD_HOST', why } };
  }
  const literal = canonicalAddress(host);
  const { port } = parseAuthority(asked.authority);
  const tunnel = scheme === 'https';
  const normal = normalizeWrittenPath(asked.path);
  const http = { method: asked.method, path: normal?.path ?? '/', ambiguous: normal?.encodedSlash ?? false };
  const call = {
    from: owner,
    host: literal ?? host,
    port: Number(port ?? (tunnel ? 443 : 80)),
    http: tunnel ? null : http,
  };
  const policy = compileEgress(config.egress);
  const judgement = literal === null ? policy.judge(call, null) : policy.judge(call, [literal]);
  const how = `${tunnel ? 'as a tunnel (CONNECT)' : 'by plain HTTP'} to ${call.host}, port ${call.port}`;
  if (judgement === null)
    return { ...explanation, refused: null, egress: `${how}, if what the name resolves to is allowed at the call` };
  if (judgement.allowed) return { ...explanation, refused: null, egress: `${how}, by ${judgement.policy}` };
  if (policy.audit)
    return {
      ...explanation,
      refused: null,
      egress: `${how}, though ${judgement.policy} denies it: egress.audit is on`,
    };
  return { ...explanation, refused: { status: 403, code: 'SLV_EGRESS_DENIED', why: `${how}: ${judgement.policy}` } };
}

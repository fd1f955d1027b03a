// The gate out of the mesh: name judged, name resolved, addresses judged, verdict counted. What it lets through goes to those addresses alone.
import { Counter, type Registry } from 'prom-client';
import { SelvedgeError } from '../errors.ts';
import { addressClass } from './address-class.ts';
import { BY_ADDRESS, type EgressCall, type EgressPolicy, type Judgement } from './policy.ts';
import type { Resolver } from './resolve.ts';

/** `audit_denied`: let through because the policy is on trial. */
export type EgressVerdict = 'allowed' | 'denied' | 'audit_denied';

export interface EgressDecision {
  readonly verdict: EgressVerdict;
  /** Name of the rule that decided, or `egress.default`, `egress.addresses`. */
  readonly policy: string;
  /** What may be dialled; empty where the call is denied. */
  readonly addresses: readonly string[];
  /** A tunnel must carry TLS that names its host. */
  readonly tls: boolean;
}

/** Labels are names of the config alone: hosts come from applications. */
export type EgressCounter = Counter<'owner' | 'policy' | 'verdict'>;

const METRIC = 'selvedge_egress_total';

/** Registers it once per registry. */
export function egressCounter(registry: Registry): EgressCounter {
  return (
    (registry.getSingleMetric(METRIC) as EgressCounter | undefined) ??
    new Counter({
      name: METRIC,
      help: 'Calls beyond the mesh, by the hop that was asked, the rule that decided and the verdict.',
      labelNames: ['owner', 'policy', 'verdict'],
      registers: [registry],
    })
  );
}

/** Rejects with SLV_UPSTREAM_DNS where the name is let through and cannot be resolved. Counts nothing: see `countEgress`. */
export async function decideEgress(
  policy: EgressPolicy,
  resolver: Pick<Resolver, 'resolve'>,
  call: EgressCall,
): Promise<EgressDecision> {
  const byName = policy.judge(call, null);
  if (byName !== null && !policy.audit) return decision(byName, []);
  const addresses = await resolver.resolve(call.host);
  return decision(byName ?? policy.judge(call, addresses), policy.audit ? addresses : []);
}

/** @param onTrial - all addresses of the host where the policy is on trial, else none */
function decision(judgement: Judgement, onTrial: readonly string[]): EgressDecision {
  if (judgement.allowed) {
    const { policy, addresses, tls } = judgement;
    return { verdict: 'allowed', policy, addresses, tls };
  }
  // A trial of rules is no reason to hand out this machine and its credentials.
  const addresses = onTrial.filter((address) => ['public', 'private'].includes(addressClass(address)));
  if (addresses.length > 0) return { verdict: 'audit_denied', policy: judgement.policy, addresses, tls: true };
  const policy = onTrial.length > 0 ? BY_ADDRESS : judgement.policy;
  return { verdict: 'denied', policy, addresses, tls: true };
}

export function countEgress(counter: EgressCounter, owner: string, { policy, verdict }: EgressDecision): void {
  counter.inc({ owner, policy, verdict });
}

/** For the log; the client learns that it is denied and nothing more. */
export function egressDenied({ from, host, port }: EgressCall, { policy }: EgressDecision): SelvedgeError {
  return new SelvedgeError('SLV_EGRESS_DENIED', `"${from}" may not call ${host}:${port}: ${policy}`);
}

// Whether whoever serves wants traffic, as load balancers ask it.
import type { Health } from './engine.ts';
import type { IdentityState } from './mesh-identity.ts';
import type { Snapshot } from './snapshot.ts';

/** @param first nothing was in force before: a reload does not make unready what was ready; an application that ends does */
export function healthOf(
  snapshot: Pick<Snapshot, 'unchecked' | 'appProblems'> | null,
  identity: IdentityState | null,
  first: boolean,
  inFlight: number,
): Health {
  const unchecked = first ? (snapshot?.unchecked ?? []) : [];
  const expired = identity?.certificates.filter((certificate) => certificate.expired) ?? [];
  return {
    reasons: [
      ...unchecked.map((service) => `service "${service}" has not been checked yet`),
      ...(snapshot?.appProblems(first) ?? []),
      ...expired.map(({ id, expiresAt }) => `the certificate of ${id} expired at ${expiresAt}`),
    ],
    warnings: identity?.warnings ?? [],
    inFlight,
  };
}

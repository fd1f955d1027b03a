// Which endpoints are left out, and the guards against leaving out too many: outlier detection as Envoy has it, with smaller pools in mind.
import type { OutlierPolicy, SuccessRatePolicy } from '../policies/outlier-detection.ts';
import type { Endpoint } from './endpoint.ts';
import type { EjectionCause } from './events.ts';
import type { Service } from './service.ts';

/** Takes one outcome of one try into account. Null policy: nothing is held against anybody. `now` in milliseconds on the process clock. */
export function judge(
  service: Service,
  endpoint: Endpoint,
  succeeded: boolean,
  policy: OutlierPolicy | null,
  now: number,
): void {
  const { health } = endpoint;
  if (policy === null) {
    health.probing = false;
    return;
  }
  endOfInterval(service, policy, now);
  health.intervalRequests += 1;
  if (succeeded) {
    health.consecutiveFailures = 0;
    if (!health.isReturning(now)) return;
    health.probing = false;
    health.reinstate(now);
    service.events.returned(service.name, endpoint.address, 'probe');
    return;
  }
  health.intervalFailures += 1;
  if (health.isReturning(now)) {
    // Its place was kept free: nobody else can have taken the share that may be out.
    eject(service, endpoint, 'probe_failed', policy, now);
    return;
  }
  if (health.ejected) return;
  health.consecutiveFailures += 1;
  if (health.consecutiveFailures >= policy.consecutive5xx && mayEject(service, endpoint, policy, now))
    eject(service, endpoint, 'consecutive_failures', policy, now);
}

function eject(service: Service, endpoint: Endpoint, cause: EjectionCause, policy: OutlierPolicy, now: number): void {
  const { baseEjectionMs: baseMs, maxEjectionMs: maxMs, intervalMs } = policy;
  const forMs = endpoint.health.eject(now, { baseMs, maxMs, intervalMs }, service.random);
  service.events.ejected(service.name, endpoint.address, cause, forMs);
}

/** The share counts after the ejection, and somebody must be left to take the requests. */
function mayEject(service: Service, endpoint: Endpoint, policy: OutlierPolicy, now: number): boolean {
  let members = 0;
  let ejected = 1;
  let left = 0;
  for (const other of service.drawable) {
    members += 1;
    if (other === endpoint) continue;
    if (other.health.ejected) ejected += 1;
    if (other.health.availability(now) === 'available') left += 1;
  }
  return left > 0 && ejected <= policy.maxEjected * members;
}

/** Judged when the first outcome after the interval comes: without requests there is nothing to judge. */
function endOfInterval(service: Service, policy: OutlierPolicy, now: number): void {
  const { memory } = service;
  if (now < memory.intervalEndsAt) return;
  const first = memory.intervalEndsAt === 0;
  memory.intervalEndsAt = now + policy.intervalMs;
  if (!first && policy.successRate !== null) ejectWorst(service, policy, policy.successRate, now);
  for (const { health } of service.drawable) {
    health.intervalRequests = 0;
    health.intervalFailures = 0;
  }
}

/** Below mean minus `deviations` standard deviations of those that had enough requests to say. */
function ejectWorst(service: Service, policy: OutlierPolicy, rate: SuccessRatePolicy, now: number): void {
  const judged = service.drawable
    .filter(({ health }) => health.intervalRequests >= rate.minRequests && !health.ejected)
    .map((endpoint) => ({ endpoint, success: successOf(endpoint) }));
  if (judged.length < rate.minEndpoints) return;
  const mean = judged.reduce((sum, { success }) => sum + success, 0) / judged.length;
  const variance = judged.reduce((sum, { success }) => sum + (success - mean) ** 2, 0) / judged.length;
  const floor = mean - rate.deviations * Math.sqrt(variance);
  for (const { endpoint, success } of judged.sort((a, b) => a.success - b.success)) {
    if (success >= floor) return;
    if (mayEject(service, endpoint, policy, now)) eject(service, endpoint, 'success_rate', policy, now);
  }
}

function successOf({ health }: Endpoint): number {
  return 1 - health.intervalFailures / health.intervalRequests;
}

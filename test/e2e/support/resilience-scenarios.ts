// The scenarios of resilience: what fails behind the gateway, and what its clients may notice of it. The suite plays them small, bench/ at full size.
import { crowded, killedAlone, outage, restarted } from './resilience/all-endpoints.ts';
import { flapping, resting } from './resilience/by-turns.ts';
import { keptConnections, reloaded } from './resilience/connections.ts';
import { blackHoled, breaking, hedged, killed, unavailable } from './resilience/one-endpoint.ts';
import type { Scenario } from './resilience/play.ts';

export const SCENARIOS: readonly Scenario[] = [
  killed,
  blackHoled,
  unavailable,
  breaking,
  hedged,
  outage('all endpoints answer 503: no storm, prompt answers, and full service soon after they heal', {
    failing: { mode: 'status', status: 503 },
    statuses: [502, 503],
  }),
  outage('all endpoints hang: no storm, prompt answers, and full service soon after they heal', {
    failing: { mode: 'black-hole' },
    statuses: [502, 503, 504],
  }),
  outage('all endpoints fail their health checks: full service one check after they heal', {
    failing: { mode: 'status', status: 503 },
    statuses: [502, 503],
    service: { healthCheck: { http: { path: '/healthz' }, interval: '500ms', timeout: '300ms', unhealthyAfter: 1 } },
  }),
  restarted,
  killedAlone,
  crowded,
  flapping('one endpoint fails by turns: few notice', { mode: 'status', status: 503 }, () => ({ requests: 20 })),
  flapping('one endpoint comes and goes: few notice', { mode: 'refuse' }, ({ seconds }) => ({ ms: seconds * 75 })),
  resting('one endpoint answers 429 with Retry-After: it rests', {
    mode: 'status',
    status: 429,
    retryAfter: { seconds: 20 },
  }),
  resting('one endpoint answers 503 with a date to come again: it rests', {
    mode: 'status',
    status: 503,
    retryAfter: { dateInMs: 20_000 },
  }),
  keptConnections,
  reloaded,
];

// Resolves which endpoints of a service count: those that answer probes, and those whose responses are no outliers.
import { formatHostPort, parseHostPort } from '../http/address.ts';
import {
  DEFAULT_OUTLIER,
  type OutlierOptions,
  type OutlierPolicy,
  outlierPolicy,
  outlierProblems,
} from '../policies/outlier-detection.ts';
import type { CompleteService } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { HealthCheckPolicy } from './model.ts';
import { reportProblems } from './policy-problems.ts';
import { milliseconds } from './units.ts';

type HealthCheckInput = NonNullable<CompleteService['healthCheck']>;
type ProbeInput = Exclude<HealthCheckInput, false>;

export function resolveHealthCheck(written: Cursor<HealthCheckInput> | null): HealthCheckPolicy | null {
  if (written === null || written.value === false) return null;
  const check = written as Cursor<ProbeInput>;
  const interval = check.at('interval').filled();
  const timeout = check.at('timeout').filled();
  const intervalMs = milliseconds(interval);
  const timeoutMs = milliseconds(timeout);
  if (intervalMs === 0) interval.error('must be longer than 0');
  if (timeoutMs === 0) timeout.error('must be longer than 0');
  if (timeoutMs > intervalMs && intervalMs > 0) {
    const at = check.wrote('timeout') ? timeout : interval;
    at.error(
      check.wrote('timeout')
        ? `is longer than "interval" (${interval.value}): the next probe would begin before this one ends`
        : `is shorter than "timeout" (${timeout.value}): the next probe would begin before the one before ends`,
    );
  }
  return {
    probe: resolveProbe(check),
    intervalMs,
    timeoutMs,
    unhealthyAfter: check.at('unhealthyAfter').filled().value,
    healthyAfter: check.at('healthyAfter').filled().value,
  };
}

function resolveProbe(check: Cursor<ProbeInput>): HealthCheckPolicy['probe'] {
  const http = check.at('http').given();
  const tcp = check.at('tcp').given();
  const grpc = check.at('grpc').given();
  const probes = [http, tcp, grpc].filter((probe) => probe !== null);
  if (probes.length === 0)
    check.error('says nothing of how endpoints are probed: it needs one of "http", "tcp" and "grpc"');
  for (const extra of probes.slice(1)) extra.error('a health check has one of "http", "tcp" and "grpc", not several');
  if (http !== null) return resolveHttpProbe(http);
  if (grpc !== null) return { kind: 'grpc', service: grpc.at('service').filled().value };
  return { kind: 'tcp' };
}

function resolveHttpProbe(http: Cursor<NonNullable<ProbeInput['http']>>): HealthCheckPolicy['probe'] {
  const path = http.at('path').filled();
  if (!/^\/[\x21\x22\x24-\x7e]*$/.test(path.value))
    path.error(`"${path.value}" is not a path: it begins with "/" and has no "#", space or character beyond ASCII`);
  const host = http.at('host').given();
  // Without a port there is nothing to format back.
  const parsed = host === null ? null : parseHostPort(host.value, 0);
  if (host !== null && parsed === null) host.error(`"${host.value}" is not a host, with or without a port`);
  return {
    kind: 'http',
    path: path.value,
    host:
      host === null || parsed === null
        ? null
        : parsed.port === 0
          ? host.value.toLowerCase()
          : formatHostPort(parsed.host, parsed.port),
    statuses: [...new Set(http.at('status').filled().value)],
  };
}

type OutlierInput = Exclude<NonNullable<CompleteService['outlierDetection']>, false>;

export function resolveOutlierDetection(service: Cursor<CompleteService>, endpoints: number): OutlierPolicy | null {
  const written = service.at('outlierDetection').filled();
  if (written.value === false) return null;
  const options = written as Cursor<OutlierInput>;
  if (!reportProblems(options, outlierProblems(options.value as OutlierOptions))) return DEFAULT_OUTLIER;
  const policy = outlierPolicy(options.value as OutlierOptions);
  if (service.wrote('outlierDetection')) checkReach(options, policy, endpoints);
  return policy;
}

/** What can never come to an ejection with as many endpoints as there are. */
function checkReach(options: Cursor<OutlierInput>, policy: OutlierPolicy, endpoints: number): void {
  const { maxEjected, successRate } = policy;
  const share = options.at('maxEjected').filled();
  if (endpoints === 1) {
    if (maxEjected === 1)
      share.error('the last endpoint is never ejected, and this service has only one: 100% can never be out');
    else options.warn('never ejects anything: the last endpoint is never ejected, and this service has only one');
    return;
  }
  if (maxEjected * endpoints < 1)
    share.warn(`never lets anything be ejected: ${share.value} of ${endpoints} endpoints is less than one`);
  if (successRate !== null && successRate.minEndpoints > endpoints) {
    options
      .at('successRate')
      .warn(
        `is never judged: it takes ${successRate.minEndpoints} endpoints ("minEndpoints"), and there are ${endpoints}`,
      );
  }
}

// Resolves how the requests for one service are spread over its endpoints and how many of them there may be.
import type { CompleteService } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { HEADER_NAME } from './header-names.ts';
import type {
  AdaptiveConcurrency,
  Connections,
  EndpointConfig,
  HashKey,
  LoadBalancing,
  Locality,
  RetryBudgetPolicy,
  ServiceConfig,
} from './model.ts';
import { fraction, milliseconds } from './units.ts';

type LoadBalancingInput = NonNullable<CompleteService['loadBalancing']>;

export function resolveLoadBalancing(written: Cursor<LoadBalancingInput>): LoadBalancing {
  const value = written.value as LoadBalancingInput | Exclude<LoadBalancing['algorithm'], 'ring-hash' | 'maglev'>;
  if (typeof value === 'string') return { algorithm: value, by: null };
  const [[algorithm, key]] = written.entries() as ['ring-hash' | 'maglev', Cursor<HashInput>][];
  return { algorithm, by: resolveHashKey(key) };
}

type HashInput = NonNullable<LoadBalancingInput['maglev']>;

function resolveHashKey(key: Cursor<HashInput>): HashKey {
  const [[kind, name]] = key.entries() as [HashKey['kind'], Cursor<string | true>][];
  if (kind === 'clientAddress') return { kind };
  const text = name.value as string;
  // A query parameter may be called anything.
  if (kind !== 'query' && !HEADER_NAME.test(text)) name.error(`"${text}" is not the name of a ${kind}`);
  return { kind, name: kind === 'header' ? text.toLowerCase() : text };
}

export function resolveLocality(service: Cursor<CompleteService>, endpoints: readonly EndpointConfig[]): Locality {
  const locality = service.at('locality').filled();
  const zone = locality.at('zone').filled().value;
  const prefer = locality.at('prefer').filled().value;
  const asked = zone !== '' || (locality.wrote('prefer') && prefer);
  if (asked && endpoints.every((endpoint) => endpoint.zone === null))
    locality.warn('has no effect: no endpoint of this service says in which "zone" it is');
  return { zone: zone === '' ? null : zone, prefer };
}

/** Pools of database clients rest for long, and to be cut is an error to them; peers that vanish are found by keep-alive. */
const TCP_IDLE_MS = 3_600_000;

export function resolveConnections(
  written: Cursor<NonNullable<CompleteService['connections']>>,
  protocol: ServiceConfig['protocol'],
): Connections {
  const pending = written.at('pending').filled();
  const wait = written.at('waitForEndpoint').filled();
  const waitForEndpointMs = milliseconds(wait);
  if (waitForEndpointMs > 0 && pending.value === 0)
    wait.error('needs room to wait in, and "pending" is 0: set that above 0, or leave this out');
  return {
    max: written.at('max').filled().value,
    pending: pending.value,
    requests: written.at('requests').filled().value,
    retries: written.at('retries').filled().value,
    waitForEndpointMs,
    connectTimeoutMs: milliseconds(written.at('connectTimeout').filled()),
    idleTimeoutMs:
      protocol === 'tcp' && !written.wrote('idleTimeout')
        ? TCP_IDLE_MS
        : milliseconds(written.at('idleTimeout').filled()),
  };
}

const DEFAULT_MIN_CONCURRENCY = 8;

export function resolveConcurrency(
  written: Cursor<NonNullable<CompleteService['concurrency']>> | null,
  { requests }: Connections,
): AdaptiveConcurrency | null {
  if (written === null) return null;
  const max = written.at('max').given();
  const min = written.at('min').given();
  const ceiling = max?.value ?? requests;
  if (min !== null && min.value > ceiling)
    min.error(`is above ${max === null ? '"requests" of "connections"' : '"max"'} (${ceiling})`);
  if (max !== null && max.value > requests)
    max.warn(`is never reached: "requests" of "connections" (${requests}) comes first`);
  if (!written.at('adaptive').filled().value) return null;
  return { min: min?.value ?? Math.min(DEFAULT_MIN_CONCURRENCY, ceiling), max: ceiling };
}

export function resolveRetryBudget(budget: Cursor<NonNullable<CompleteService['retryBudget']>>): RetryBudgetPolicy {
  const share = fraction(budget.at('share').filled());
  const window = budget.at('window').filled();
  const windowMs = milliseconds(window);
  if (windowMs % 1_000 !== 0 || windowMs < 1_000 || windowMs > 60_000)
    window.error(`"${window.value}" is not a window: whole seconds, 1s to 60s`);
  const minPerSecond = budget.at('minPerSecond').filled().value;
  if (share === 0 && minPerSecond === 0)
    budget.warn('allows no retry at all: neither "share" nor "minPerSecond" is above 0');
  return { share, windowMs, minPerSecond };
}

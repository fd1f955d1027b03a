// What happens on the upstream side, counted for Prometheus and said in the process log: ejections, checks, retries, hedges.
import type { Logger } from 'pino';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { UpstreamEvents } from '../upstream/events.ts';
import type { Service } from '../upstream/service.ts';

/** Every service that this process knows, as callers see it. */
export type Services = () => Iterable<Service>;

/** Registers them once per registry. Labels are names of the config and reasons of ours; series go with the endpoints of the config. */
export function upstreamMetrics(registry: Registry, log: Logger, services: Services): UpstreamEvents {
  const registers = [registry];
  const ejections = new Counter({
    name: 'selvedge_ejections_total',
    help: 'Endpoints that were left out because they failed, by cause.',
    labelNames: ['service', 'endpoint', 'cause'],
    registers,
  });
  const checks = new Counter({
    name: 'selvedge_health_check_changes_total',
    help: 'Verdicts of active health checks that differ from the one before, the first one included.',
    labelNames: ['service', 'endpoint', 'verdict'],
    registers,
  });
  const opened = new Counter({
    name: 'selvedge_upstream_connections_opened_total',
    help: 'Connections opened to endpoints for requests, TLS included where there is any; those of active checks are left out.',
    labelNames: ['service', 'endpoint'],
    registers,
  });
  const retries = new Counter({
    name: 'selvedge_retries_total',
    help: 'Tries that failed in a way that is retried, by reason of the failure and by what became of the retry.',
    labelNames: ['service', 'reason', 'result'],
    registers,
  });
  const hedges = new Counter({
    name: 'selvedge_hedges_total',
    help: 'Second tries beside a slow first one, by result.',
    labelNames: ['service', 'result'],
    registers,
  });
  registerGauges(registry, services);
  return {
    ejected(service, endpoint, cause, forMs) {
      ejections.inc({ service, endpoint, cause });
      log.warn({ service, endpoint, cause, forMs: Math.round(forMs) }, 'endpoint ejected');
    },
    returned(service, endpoint, by) {
      log.info({ service, endpoint, by }, 'endpoint is back');
    },
    checked(service, endpoint, healthy, detail) {
      checks.inc({ service, endpoint, verdict: healthy ? 'healthy' : 'unhealthy' });
      if (healthy) log.info({ service, endpoint, detail }, 'endpoint is healthy');
      else log.warn({ service, endpoint, detail }, 'endpoint is unhealthy');
    },
    application(service, endpoint, accepting, first) {
      // It may well start behind its hop.
      if (!accepting && first) log.info({ service, endpoint }, 'the application does not accept connections yet');
      else if (accepting) log.info({ service, endpoint }, 'the application accepts connections');
      else log.warn({ service, endpoint }, 'the application does not accept connections');
    },
    resting(service, endpoint, forMs) {
      log.info({ service, endpoint, forMs: Math.round(forMs) }, 'endpoint asked for rest');
    },
    opened(service, endpoint) {
      opened.inc({ service, endpoint });
    },
    panicking(service, panicking) {
      if (panicking) log.warn({ service }, 'too few endpoints are left: those left out on suspicion are used as well');
      else log.info({ service }, 'enough endpoints are back: others are left out on suspicion again');
    },
    retry(service, reason, result) {
      retries.inc({ service, reason, result });
    },
    hedge(service, result) {
      hedges.inc({ service, result });
    },
  };
}

function registerGauges(registry: Registry, services: Services): void {
  const registers = [registry];
  new Gauge({
    name: 'selvedge_endpoint_healthy',
    help: '1 while the endpoint takes its share of requests, 0 while it is ejected, resting, unhealthy or unreachable.',
    labelNames: ['service', 'endpoint'],
    registers,
    // Of several workers: the share of them that use it.
    aggregator: 'average',
    collect() {
      this.reset();
      for (const { name, wheel, endpoints } of services()) {
        const now = wheel.now();
        for (const { address, health } of endpoints)
          this.set({ service: name, endpoint: address }, health.availability(now) === 'available' ? 1 : 0);
      }
    },
  });
  new Gauge({
    name: 'selvedge_service_requests',
    help: 'Requests under way to a service: all; those of them on a further try (retry); those that wait for an endpoint (waiting).',
    labelNames: ['service', 'kind'],
    registers,
    collect() {
      this.reset();
      for (const { name, memory } of services()) {
        this.set({ service: name, kind: 'all' }, memory.requests);
        this.set({ service: name, kind: 'retry' }, memory.retries);
        this.set({ service: name, kind: 'waiting' }, memory.waiting.size);
      }
    },
  });
  new Gauge({
    name: 'selvedge_concurrency_limit',
    help: 'Requests that concurrency.adaptive allows under way at present.',
    labelNames: ['service'],
    registers,
    collect() {
      this.reset();
      for (const { name, memory } of services())
        if (memory.adaptive !== null) this.set({ service: name }, Math.floor(memory.adaptive.limit));
    },
  });
}

// What the process says about itself in Prometheus' terms; requests and endpoints speak for themselves.
import { Counter, Gauge, type Registry } from 'prom-client';

/** What the gauge reads when it is scraped. */
export interface Measured {
  revision(): number;
}

export interface RuntimeMetrics {
  /** A config was put in force. */
  loaded(at: Date): void;
  /** A config was refused. */
  rejected(): void;
}

/** Registers them once per registry, each with a single series. */
export function registerRuntimeMetrics(registry: Registry, version: string, measured: Measured): RuntimeMetrics {
  const registers = [registry];
  new Gauge({ name: 'selvedge_info', help: 'Always 1; the running version.', labelNames: ['version'], registers }).set(
    { version },
    1,
  );
  new Gauge({
    name: 'selvedge_config_revision',
    help: 'Number of the config in force: 1 at start, one more with each reload that was applied.',
    registers,
    collect() {
      this.set(measured.revision());
    },
  });
  const lastReload = new Gauge({
    name: 'selvedge_config_last_reload_timestamp_seconds',
    help: 'When the config in force was applied, in seconds since the epoch.',
    registers,
  });
  const rejected = new Counter({
    name: 'selvedge_config_rejected_total',
    help: 'Configs that were refused while an older one went on.',
    registers,
  });
  return {
    loaded: (at) => lastReload.set(at.getTime() / 1000),
    rejected: () => rejected.inc(),
  };
}

/** Of whoever serves. One series for each listener key. */
export function registerConnectionsMetric(registry: Registry, connections: () => ReadonlyMap<string, number>): void {
  new Gauge({
    name: 'selvedge_connections',
    help: 'Open client connections.',
    labelNames: ['listener'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [listener, count] of connections()) this.set({ listener }, count);
    },
  });
}

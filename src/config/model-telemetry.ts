// What is told about requests: log lines, metrics, traces.
export interface AccessLog {
  /** Share of ordinary requests that are logged, 0 to 1. */
  readonly sample: number;
  /** Requests that are logged whatever the sample says. */
  readonly always: { readonly errors: boolean; readonly slowMs: number | null };
  /** Lower-case header names whose values are never written. */
  readonly redact: readonly string[];
  /** Fixed fields added to every line. */
  readonly fields: Readonly<Record<string, string>>;
  /** Request header names that are written (redacted ones as `[redacted]`). */
  readonly headers: readonly string[];
}

export interface Metrics {
  /** Seconds. */
  readonly buckets: readonly number[];
  readonly maxSeries: number;
}

export interface Tracing {
  /** Base URL of the collector. */
  readonly otlp: string;
  /** Share of requests that are recorded, of those about which no trusted caller has decided, 0 to 1. */
  readonly sample: number;
  readonly propagate: readonly ('w3c' | 'b3' | 'b3multi')[];
  /** For the collector, by lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether gateways go by what their callers decided. */
  readonly trustParent: boolean;
}

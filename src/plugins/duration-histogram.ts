// A histogram in prom-client's registry whose series a request adds to without building a key: prom-client hashes the labels with every value.
import type { Metric } from 'prom-client';

type Labels = Readonly<Record<string, string>>;

interface Value {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** One label set. Memory: a number a bucket. */
export class DurationSeries {
  readonly labels: Labels;
  /** Observations by bucket, not added up; the last one is `+Inf`. */
  readonly counts: Float64Array;
  sum = 0;
  readonly #bounds: readonly number[];

  constructor(labels: Labels, bounds: readonly number[]) {
    this.labels = labels;
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(seconds: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && seconds > bounds[bucket]) bucket++;
    this.counts[bucket]++;
    this.sum += seconds;
  }
}

/** What a prom-client registry asks of a metric: name and `get`. */
export class DurationHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly #bounds: readonly number[];
  readonly #series: DurationSeries[] = [];

  /** @param bounds upper bounds in seconds, ascending */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.name = name;
    this.help = help;
    this.#bounds = bounds;
  }

  /** A new series; the caller keeps it and bounds how many there are. */
  add(labels: Labels): DurationSeries {
    const series = new DurationSeries(labels, this.#bounds);
    this.#series.push(series);
    return series;
  }

  /** For `registry.registerMetric`, whose type knows prom-client's own classes only. */
  asMetric(): Metric {
    return this as unknown as Metric;
  }

  async get(): Promise<{ name: string; help: string; type: string; aggregator: string; values: Value[] }> {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: this.#series.flatMap((series) => this.#valuesOf(series)) };
  }

  reset(): void {
    for (const series of this.#series) {
      series.counts.fill(0);
      series.sum = 0;
    }
  }

  #valuesOf({ labels, counts, sum }: DurationSeries): Value[] {
    const values: Value[] = [];
    let total = 0;
    for (const [bucket, count] of counts.entries()) {
      total += count;
      const le = this.#bounds[bucket] ?? '+Inf';
      values.push({ metricName: `${this.name}_bucket`, labels: { le, ...labels }, value: total });
    }
    values.push({ metricName: `${this.name}_sum`, labels, value: sum });
    values.push({ metricName: `${this.name}_count`, labels, value: total });
    return values;
  }
}

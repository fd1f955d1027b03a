// The metrics of all workers and of the supervisor as those of one process; a worker that ends does not take back what it has counted.
import type { Registry } from 'prom-client';
import { lasting, type Metrics, mergeMetrics } from './merge.ts';
import type { WorkerProcess } from './worker-process.ts';

type Measured = Pick<WorkerProcess, 'channel'>;

export class FleetMetrics {
  readonly #own: Registry;
  /** What each said last. */
  readonly #last = new Map<Measured, Metrics>();
  /** Of those that ended; two at most, once it is merged. */
  #departed: Metrics[] = [];

  constructor(own: Registry) {
    this.#own = own;
  }

  /** Prometheus text. Whoever does not answer in time stands as it stood before. */
  async scrape(workers: readonly Measured[], timeoutMs: number): Promise<string> {
    const [own] = await Promise.all([
      this.#own.getMetricsAsJSON() as unknown as Promise<Metrics>,
      ...workers.map((worker) =>
        worker.channel
          .ask<Metrics>('metrics', undefined, timeoutMs)
          .then((metrics) => this.#last.set(worker, metrics))
          .catch(() => undefined),
      ),
    ]);
    return mergeMetrics([own, ...this.#departed, ...this.#last.values()]).metrics();
  }

  /** What it counted since it was last asked is lost. */
  gone(worker: Measured): void {
    const last = this.#last.get(worker);
    if (last === undefined) return;
    this.#last.delete(worker);
    this.#departed.push(lasting(last));
    void this.#compact();
  }

  async #compact(): Promise<void> {
    const parts = this.#departed;
    if (parts.length < 2) return;
    const merged = (await mergeMetrics(parts).getMetricsAsJSON()) as unknown as Metrics;
    this.#departed = [merged, ...this.#departed.slice(parts.length)];
  }
}

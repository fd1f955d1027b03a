// What reached an upstream, by the number that a load driver gives each request: a request delivered twice, or never, shows.
import { openSync, readFileSync, writeSync } from 'node:fs';

/** Carries the number; each request of a load has its own. */
export const NUMBER_HEADER = 'x-request-no';

export interface Delivery {
  readonly method: string;
  /** -1: it bore none. */
  readonly number: number;
}

/** Requests whose head arrived. Bounded by the load that a test makes. */
export class Deliveries {
  readonly all: readonly Delivery[];

  constructor(all: readonly Delivery[]) {
    this.all = all;
  }

  get total(): number {
    return this.all.length;
  }

  count(method: string): number {
    return this.all.filter((delivery) => delivery.method === method).length;
  }

  /** How often each number arrived. */
  byNumber(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const { number } of this.all) counts.set(number, (counts.get(number) ?? 0) + 1);
    return counts;
  }

  static sum(parts: readonly Deliveries[]): Deliveries {
    return new Deliveries(parts.flatMap(({ all }) => all));
  }

  /** What `recorder` wrote, whatever has become of its process since. */
  static read(file: string): Deliveries {
    const lines = readFileSync(file, 'latin1').split('\n');
    // A process that was killed may have left half a line; the one after the last line feed is empty otherwise.
    lines.pop();
    return new Deliveries(
      lines.map((line) => {
        const [method, number] = line.split(' ');
        return { method, number: Number(number) };
      }),
    );
  }
}

/** Appends to a file before anything is answered: what the kernel has taken outlives a SIGKILL. */
export function recorder(file: string): (delivery: Delivery) => void {
  const descriptor = openSync(file, 'a');
  return ({ method, number }) => writeSync(descriptor, `${method} ${number}\n`);
}

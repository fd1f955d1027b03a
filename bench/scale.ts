// `npm run bench -- scale`: what grows with a deployment: idle connections, bodies, routes, workers.
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stop } from './processes.ts';
import { saveResults } from './results.ts';
import { bodies } from './scale-bodies.ts';
import { idleConnections } from './scale-idle.ts';
import { routes } from './scale-routes.ts';
import { workers } from './scale-workers.ts';

export interface ScaleBench {
  readonly rounds: number;
  readonly seconds: number;
  /** Of the bodies, in MiB. */
  readonly bodyMiB: number;
  /** Only parts whose name has this in it. */
  readonly only: string | undefined;
}

/** One part's surroundings: a folder, and processes that are ended with the part. */
export interface Part extends ScaleBench {
  readonly dir: string;
  readonly keep: (child: ChildProcess) => unknown;
}

const PARTS: Readonly<Record<string, (part: Part) => Promise<unknown>>> = {
  idle: idleConnections,
  bodies,
  routes,
  workers,
};

export async function benchScale(bench: ScaleBench): Promise<void> {
  const found: Record<string, unknown> = {};
  const wanted = Object.entries(PARTS).filter(([name]) => name.includes(bench.only ?? ''));
  for (const [name, measure] of wanted) {
    const dir = mkdtempSync(join(tmpdir(), `selvedge-bench-${name}-`));
    const started: ChildProcess[] = [];
    try {
      found[name] = await measure({ ...bench, dir, keep: (child) => started.push(child) });
      process.stdout.write('\n');
    } finally {
      for (const child of started) await stop(child);
      rmSync(dir, { recursive: true, force: true });
    }
  }
  saveResults({ scale: { rounds: bench.rounds, seconds: bench.seconds, ...found } });
}

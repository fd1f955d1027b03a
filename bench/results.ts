// bench/results.json: each benchmark has a key of its own and leaves those of the others alone.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { rounded } from './figures.ts';

const file = new URL('./results.json', import.meta.url);

/** What each benchmark of this run has found, by its key. */
export const found: Record<string, unknown> = {};

let recording = true;

/** A hasty run is to look at: the guard would otherwise hold later ones against it. */
export function recordNothing(): void {
  recording = false;
}

export function recorded(): Readonly<Record<string, unknown>> {
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
}

/** With what has to be known beside the figures. */
export function saveResults(own: Readonly<Record<string, object>>): void {
  const about = {
    at: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model,
    load: loadavg().map((load) => rounded(load)),
  };
  for (const [key, result] of Object.entries(own)) found[key] = { ...about, ...result };
  if (!recording) return;
  const now = Object.fromEntries(Object.keys(own).map((key) => [key, found[key]]));
  writeFileSync(file, `${JSON.stringify({ ...recorded(), ...now }, null, 2)}\n`);
}

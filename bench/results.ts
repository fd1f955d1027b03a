// bench/results.json: each benchmark has keys of its own and leaves those of the others alone.
import { readFileSync, writeFileSync } from 'node:fs';

const file = new URL('./results.json', import.meta.url);

export function saveResults(own: Readonly<Record<string, unknown>>): void {
  const all = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeFileSync(file, `${JSON.stringify({ ...all, ...own }, null, 2)}\n`);
}

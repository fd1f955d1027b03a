// Selvedge as it is published: bin/selvedge.js with dist/, which starts itself with the settings that spare memory.
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listening, PROXY_CORE, packageVersion, ROOT, type Start, start } from './processes.ts';

export const VERSION = packageVersion('..');
const BIN = join(ROOT, 'bin/selvedge.js');

/** From sources the compiler would count as time and memory of Selvedge. */
function build(): void {
  execFileSync(process.execPath, ['scripts/build.ts', '--if-needed'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

export interface Selvedge extends Partial<Start> {
  readonly dir: string;
  /** Of the config and, with `.log`, of what it writes. */
  readonly name: string;
  /** A config; JSON is YAML. */
  readonly config: object;
  /** Resolves when this port answers. */
  readonly port: number;
  /** Further words of the command line. */
  readonly words?: readonly string[];
  /** Told of the process before it serves, so that it is ended in any case. */
  readonly keep: (child: ChildProcess) => unknown;
}

export async function startSelvedge(selvedge: Selvedge): Promise<ChildProcess> {
  const { dir, name, config, port, words = [], keep, core = PROXY_CORE, log } = selvedge;
  build();
  const file = join(dir, `${name}.json`);
  writeFileSync(file, JSON.stringify(config));
  const child = start([process.execPath, BIN, 'run', '-c', file, ...words], { core, log });
  keep(child);
  await listening(port);
  return child;
}

/** Null where `selvedge check` accepts the config; otherwise what it says. */
export function refusal(dir: string, config: object): string | null {
  build();
  const file = join(dir, 'checked.json');
  writeFileSync(file, JSON.stringify(config));
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, 'check', '-c', file], { encoding: 'utf8' });
  return status === 0 ? null : `${stdout}${stderr}`.trim();
}

// Selvedge as it is published: bin/selvedge.js with dist/, which starts itself with the settings that spare memory.
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROXY_CORE, packageVersion, ROOT, type Serve, serve } from './processes.ts';

export const VERSION = packageVersion('..');
const BIN = join(ROOT, 'bin/selvedge.js');

/** What runs is what was built: from sources the compiler would count as time and memory of Selvedge. */
export function build(): void {
  execFileSync(process.execPath, ['scripts/build.ts', '--if-needed'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

export interface Selvedge extends Omit<Serve, 'core'> {
  /** Not given: that of proxies. */
  readonly core?: string | null;
  readonly dir: string;
  /** Of the config and, with `.log`, of what it writes. */
  readonly name: string;
  /** A config; JSON is YAML. */
  readonly config: object;
  /** Further words of the command line. */
  readonly words?: readonly string[];
}

export async function startSelvedge(selvedge: Selvedge): Promise<ChildProcess> {
  const { dir, name, config, port, words = [], keep, core = PROXY_CORE, log } = selvedge;
  build();
  const file = join(dir, `${name}.json`);
  writeFileSync(file, JSON.stringify(config));
  return serve([process.execPath, BIN, 'run', '-c', file, ...words], { port, core, log, keep });
}

/** Null where `selvedge check` accepts the config; otherwise what it says. */
export function refusal(dir: string, config: object): string | null {
  build();
  const file = join(dir, 'checked.json');
  writeFileSync(file, JSON.stringify(config));
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, 'check', '-c', file], { encoding: 'utf8' });
  return status === 0 ? null : `${stdout}${stderr}`.trim();
}

// Which Selvedge this is: for the metric, the admin server and the command line.
import { readFileSync } from 'node:fs';

/** As package.json has it, from `src/` and from the published build alike. */
export function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    readonly version: string;
  };
  return manifest.version;
}

// The `-c` option that commands about a config share: where the config is when nobody says.
import { CONFIG_PATHS, findConfig } from '../config/load.ts';
import { type CommandInput, type Io, UsageError } from './command.ts';

/** Throws UsageError where there is none, and for arguments, because a config is given by `-c` alone. */
export function configPath(name: string, { values, positionals }: CommandInput, io: Io): string {
  if (positionals.length > 0)
    throw new UsageError(`${name} takes no argument "${positionals[0]}" (a config is given by -c)`);
  const path = (values.config as string | undefined) ?? findConfig(io.cwd);
  if (path !== null) return path;
  const places = CONFIG_PATHS.map((place) => `./${place}`).join(', ');
  throw new UsageError(`no config here: none of ${places} exists; name one by -c, or let "selvedge init" write one`);
}

// Which source of certificates a process has: as `mesh.identity` says.
import type { IdentityConfig } from '../config/model.ts';
import { withAliases } from './aliases.ts';
import type { IdentityDeps } from './deps.ts';
import type { IdentitySource } from './source.ts';

/** Only the source that is used is loaded. Nothing is read or asked for before its `need`. */
export async function openIdentity(config: IdentityConfig, deps: IdentityDeps): Promise<IdentitySource> {
  return withAliases(await open(config, deps), deps);
}

async function open(config: IdentityConfig, deps: IdentityDeps): Promise<IdentitySource> {
  switch (config.kind) {
    case 'builtin':
      return (await import('./builtin.ts')).builtinSource(config, deps);
    case 'files':
      return (await import('./files.ts')).filesSource(config, deps);
    case 'spiffe':
      return (await import('./spiffe.ts')).spiffeSource(config, deps);
    case 'ca':
      return (await import('./ca-client.ts')).caSource(config, deps);
  }
}

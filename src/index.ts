// The library: one running Selvedge inside any Node process, from the same config and with the same parts as the command line.
import { assemble, type Selvedge, type SelvedgeOptions } from './assemble.ts';

export type { Address, Selvedge, SelvedgeOptions, Status } from './assemble.ts';
export type { ConfigInput } from './config/define.ts';
export { defineConfig } from './config/define.ts';
export type { Mesh, Place } from './config/model.ts';
export { formatProblem, type Problem } from './config/problem.ts';
export { type Code, SelvedgeError } from './errors.ts';
export type { IdentitySource, Svid, TrustBundles } from './identity/source.ts';
export { ConfigError, RoleError } from './runtime/config-error.ts';
export type { CloseOptions, ReloadOutcome, RuntimeState } from './runtime/control.ts';

/**
 * Prepares a Selvedge; nothing is read or bound before `start`.
 *
 * @example
 * const selvedge = await createSelvedge({ config: 'selvedge.yaml' });
 * await selvedge.start();
 */
export async function createSelvedge(options: SelvedgeOptions): Promise<Selvedge> {
  return assemble(options);
}

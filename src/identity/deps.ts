// What every source of certificates is given besides its own config.
import { watchFiles } from '../watch.ts';
import { type Clock, systemClock } from './clock.ts';

/** As pino's, for what an operator should know: never per request, and once per event. */
export interface IdentityLog {
  info(message: string): void;
  warn(message: string): void;
}

export interface IdentityDeps {
  /** `mesh.trustDomain`. */
  readonly trustDomain: string;
  /** `mesh.aliases`: paths of PEM files with the roots of other trust domains. They are watched. */
  readonly aliases?: readonly { readonly trustDomain: string; readonly ca: string }[];
  readonly log: IdentityLog;
  readonly clock?: Clock;
  /** Of certificates that this process issues itself. Default, and at most: a day. */
  readonly leafLifeMs?: number;
  /** 0 to 1. */
  readonly random?: () => number;
  readonly watchFiles?: typeof watchFiles;
}

type CompleteDeps = IdentityDeps & Required<Omit<IdentityDeps, 'leafLifeMs'>>;

export function withDefaults(deps: IdentityDeps): CompleteDeps {
  return { aliases: [], clock: systemClock, random: Math.random, watchFiles, ...deps };
}

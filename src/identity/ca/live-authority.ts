// The CA directory as a CA service sees it while it runs: read again every few seconds, for rollovers begun elsewhere and what is due.
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '../../private-files.ts';
import { type AuthorityState, openAuthorityDirectory } from '../authority-directory.ts';
import type { Clock } from '../clock.ts';
import type { IdentityLog } from '../deps.ts';
import type { TrustBundles } from '../source.ts';

const REFRESH_MS = 10_000;

/** The roots to hand out; the only file of the directory that others may read. */
export const ROOTS_FILE = 'ca.crt';

export interface LiveAuthority {
  state(): AuthorityState;
  /** The roots of the own trust domain. */
  bundles(): TrustBundles;
  /** Null: the directory can be read. */
  problem(): string | null;
  close(): void;
}

export interface LiveAuthorityDeps {
  readonly clock: Clock;
  readonly log: IdentityLog;
  /** Another intermediate or other roots. */
  readonly onChange: () => void;
}

/** @throws Error for a directory without a CA, or with a broken one */
export async function openLiveAuthority(
  dir: string,
  trustDomain: string,
  { clock, log, onChange }: LiveAuthorityDeps,
): Promise<LiveAuthority> {
  let state = await openAuthorityDirectory(dir, trustDomain, clock.now(), false);
  let bundles: TrustBundles = new Map([[trustDomain, state.bundle]]);
  let problem: string | null = null;
  let cancel = (): void => {};
  let closed = false;
  await writeRoots(dir, state);

  async function refresh(): Promise<void> {
    try {
      const found = await openAuthorityDirectory(dir, trustDomain, clock.now(), false);
      const otherRoots = found.bundle !== state.bundle;
      const changed = otherRoots || !found.issuer.certificate.raw.equals(state.issuer.certificate.raw);
      if (otherRoots) {
        await writeRoots(dir, found);
        bundles = new Map([[trustDomain, found.bundle]]);
        log.info(`the roots of ${trustDomain} have changed: ${dir}/${ROOTS_FILE} has them`);
      }
      state = found;
      if (problem !== null) log.info(`the CA in ${dir} can be read again`);
      problem = null;
      if (changed && !closed) onChange();
    } catch (error) {
      const { message } = error as Error;
      if (message !== problem) log.warn(`the CA in ${dir} cannot be read, what was read before stays: ${message}`);
      problem = message;
    }
  }

  function later(): void {
    if (!closed) cancel = clock.after(REFRESH_MS, () => void refresh().then(later));
  }

  later();
  return {
    state: () => state,
    bundles: () => bundles,
    problem: () => problem,
    close() {
      closed = true;
      cancel();
    },
  };
}

export async function writeRoots(dir: string, { bundle }: AuthorityState): Promise<void> {
  const path = join(dir, ROOTS_FILE);
  await writePrivate(path, bundle);
  await chmod(path, 0o644);
}

// Certificates of a CA of this machine: what a mesh on one machine needs, without anything to install.
import { issueSvid } from './authority.ts';
import { type AuthorityState, authorityFiles, openAuthorityDirectory } from './authority-directory.ts';
import { type IdentityDeps, withDefaults } from './deps.ts';
import { makeListeners } from './listeners.ts';
import { startRotation } from './rotation.ts';
import type { IdentitySource, Svid, TrustBundles } from './source.ts';
import { parseSpiffeId } from './spiffe-id.ts';
import { rootsOf } from './trust.ts';

/** Steps of a rollover and the renewal of the intermediate wait no longer than this for somebody to take them. */
const MAINTENANCE_MS = 600_000;

/** Leafs and their keys live in memory only. */
export function builtinSource(config: { readonly dir: string }, given: IdentityDeps): IdentitySource {
  const { trustDomain, log, clock, random, watchFiles } = withDefaults(given);
  const { dir } = config;
  const listeners = makeListeners((error) => log.warn(`a user of certificates has failed: ${error.message}`));
  const rotation = startRotation({ issue, onChange: listeners.tell, clock, random, log });
  const watch = watchFiles(() => void refresh(), {
    onError: (error, directory) =>
      log.warn(`${directory} cannot be watched, it is read again every 5 s: ${error.message}`),
  });
  let state: AuthorityState | null = null;
  let bundles: TrustBundles = new Map();
  let problem: string | null = null;
  let cancelMaintenance = (): void => {};
  let last: Promise<unknown> = Promise.resolve();
  let closed = false;

  /** One after the other: an older state must not take the place of a newer one. */
  function current(): Promise<AuthorityState> {
    const reading = last.then(read, read);
    last = reading;
    return reading;
  }

  /** The CA as it is on disk now; when it was good before and cannot be read any more, as it was. */
  async function read(): Promise<AuthorityState> {
    if (closed) throw new Error('the source of certificates is closed');
    try {
      const found = await openAuthorityDirectory(dir, trustDomain, clock.now(), state === null);
      problem = null;
      adopt(found);
      return found;
    } catch (error) {
      if (state === null) throw error;
      const { message } = error as Error;
      if (message !== problem) log.warn(`the CA in ${dir} cannot be read, what was read before stays: ${message}`);
      problem = message;
      return state;
    }
  }

  function adopt(found: AuthorityState): void {
    const before = state;
    state = found;
    if (before?.bundle === found.bundle) return;
    bundles = new Map([[trustDomain, found.bundle]]);
    if (before === null) return;
    log.info(`the roots of ${trustDomain} have changed: ${rootsOf(bundles, trustDomain).length} are trusted now`);
    listeners.tell();
    // Another CA took the place of this one, or a rollover has ended while this process could not renew.
    const trusted = rootsOf(bundles, trustDomain).some(({ certificate }) =>
      certificate.raw.equals(before.root.certificate.raw),
    );
    if (!trusted) rotation.renewAll();
  }

  async function refresh(): Promise<void> {
    if (!closed && state !== null) await current().catch(() => {});
  }

  function maintainLater(): void {
    cancelMaintenance();
    if (closed) return;
    cancelMaintenance = clock.after(MAINTENANCE_MS, () => void refresh().then(maintainLater));
  }

  async function issue(id: string): Promise<Svid> {
    return issueSvid((await current()).issuer, id, { now: clock.now() });
  }

  async function need(ids: readonly string[]): Promise<void> {
    const foreign = ids.find((id) => parseSpiffeId(id)?.trustDomain !== trustDomain);
    if (foreign !== undefined)
      throw new Error(`${foreign} is not of the trust domain ${trustDomain}, whose CA is in ${dir}`);
    const since = Date.now();
    await current();
    await watch.update(authorityFiles(dir), since);
    await rotation.need(ids);
    listeners.open();
    maintainLater();
  }

  return {
    need,
    svid: rotation.svid,
    bundles: () => bundles,
    onChange: listeners.add,
    warnings: () => [...(problem === null ? [] : [problem]), ...rotation.warnings()],
    close() {
      closed = true;
      cancelMaintenance();
      watch.close();
      rotation.close();
      listeners.close();
    },
  };
}

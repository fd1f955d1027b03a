// Certificates of a CA service (`selvedge ca serve`): the first one by a join token, each further one by the one before.
import { createPrivateKey } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IdentityConfig } from '../config/model.ts';
import { CaFailure } from './ca/ask.ts';
import { readTokens } from './ca/join-tokens.ts';
import { type KeptFiles, openKept } from './ca/kept.ts';
import { type CaProof, remoteAuthority, svidOf } from './ca/remote-authority.ts';
import { backoffMs } from './clock.ts';
import { type IdentityDeps, withDefaults } from './deps.ts';
import { inFile } from './in-file.ts';
import { makeListeners } from './listeners.ts';
import { startRotation } from './rotation.ts';
import type { IdentitySource, Svid, TrustBundles } from './source.ts';
import { parseSpiffeId } from './spiffe-id.ts';
import { certificatesPem, readRoots } from './trust.ts';

/** How often the roots are asked for besides every renewal: a rollover gives a day to hear of it. */
const ROOTS_MS = 300_000;

/** In a row, before it is a warning: by then nothing is lost yet. */
const ROOTS_FAILURES = 3;

/** How long a start with certificates from before waits for the roots of today. */
const ROOTS_AT_START_MS = 2_000;

/** A CA that starts together with its clients gets this long. */
const FIRST_ANSWER_MS = 20_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 4_000;

/**
 * `config.token` may be several, with commas between them: one for each id of the process, in any order, since a token says whom it
 * is for. A token is looked at only where there is no certificate that could be renewed.
 */
export function caSource(config: Extract<IdentityConfig, { kind: 'ca' }>, given: IdentityDeps): IdentitySource {
  const { trustDomain, log, clock, random } = withDefaults(given);
  const listeners = makeListeners((error) => log.warn(`a user of certificates has failed: ${error.message}`));
  const rotation = startRotation({ issue, onChange: listeners.tell, clock, random, log });
  const abort = new AbortController();
  const remote = remoteAuthority({ ...config, trustDomain, clock, signal: abort.signal });
  /** Bounded by the roles of the config. */
  const ids = new Set<string>();
  /** By SPIFFE id; a token that was spent is gone. */
  let tokens = new Map<string, string>();
  let kept: KeptFiles | null = null;
  /** PEM; null: nothing is known yet. */
  let roots: string | null = null;
  let bundles: TrustBundles = new Map();
  let rootsProblem: string | null = null;
  let rootsFailures = 0;
  let keepingProblem: string | null = null;
  let cancelRoots = (): void => {};
  let opened = false;

  async function open(): Promise<KeptFiles> {
    if (kept !== null) return kept;
    if (!config.url.startsWith('https://')) throw new Error(`the URL of the CA, ${config.url}, is not one of https:`);
    tokens = readTokens(config.token ?? '', trustDomain);
    const trusted = await remote.trusted();
    const files = await openKept(config.dir);
    const stored = await files.loadRoots();
    adoptRoots(stored === null ? trusted : inFile(files.rootsPath, () => certificatesPem(readRoots(stored))));
    kept = files;
    return files;
  }

  function adoptRoots(pem: string): void {
    if (roots === pem) return;
    const before = roots;
    roots = pem;
    bundles = new Map([[trustDomain, pem]]);
    if (before === null) return;
    log.info(`the roots of ${trustDomain} have changed: ${readRoots(pem).length} are trusted now`);
    listeners.tell();
  }

  function isGood({ cert, key }: Svid): boolean {
    try {
      svidOf(cert, createPrivateKey(key), trustDomain, roots ?? '', clock.now());
      return true;
    } catch {
      return false;
    }
  }

  async function adoptKept(files: KeptFiles, id: string): Promise<void> {
    if (rotation.svid(id) !== null) return;
    const text = await files.load(id);
    if (text === null) return;
    try {
      const svid = svidOf(text, createPrivateKey(text), trustDomain, roots ?? '', clock.now());
      if (svid.id === id) rotation.adopt(svid);
    } catch (error) {
      log.warn(`${files.pathOf(id)} is not used, a new certificate is asked for: ${(error as Error).message}`);
    }
  }

  async function issue(id: string): Promise<Svid> {
    const current = rotation.svid(id);
    if (current === null || current.expiresAt <= clock.now()) return joinAs(id);
    try {
      return await obtain(id, { certificate: current });
    } catch (error) {
      // The CA has been replaced, perhaps: then a token, if there is one, begins anew.
      if (!(error instanceof CaFailure && error.kind === 'credentials') || !tokens.has(id)) throw error;
      return joinAs(id);
    }
  }

  async function joinAs(id: string): Promise<Svid> {
    const token = tokens.get(id);
    if (token === undefined) throw new Error(withoutToken(id));
    const giveUpAt = performance.now() + FIRST_ANSWER_MS;
    for (let failures = 1; ; failures += 1) {
      try {
        const svid = await obtain(id, { token });
        tokens.delete(id);
        return svid;
      } catch (error) {
        const waitMs = backoffMs(failures, FIRST_RETRY_MS, LONGEST_RETRY_MS, random);
        const passing = error instanceof CaFailure && error.kind === 'later';
        if (!passing || abort.signal.aborted || performance.now() + waitMs > giveUpAt)
          throw new Error(`no certificate for ${id}: ${(error as Error).message}`, { cause: error });
        // Nothing else may keep the process alive while it starts.
        await sleep(waitMs, undefined, { signal: abort.signal });
      }
    }
  }

  function withoutToken(id: string): string {
    const have = tokens.size === 0 ? 'no join token' : `join tokens for ${[...tokens.keys()].join(', ')} only`;
    return `no certificate for ${id}: none that could be renewed is in ${config.dir}, and there is ${have}; selvedge ca issue --id ${parseSpiffeId(id)?.path} makes one for mesh.identity.ca.token`;
  }

  async function obtain(id: string, proof: CaProof): Promise<Svid> {
    const answer = await remote.certify(id, proof, roots);
    await takeRoots(answer.roots, id);
    await keep(() => kept?.save(answer.svid));
    return answer.svid;
  }

  /** `renewed`: the id whose certificate is of these roots, and will be in use in a moment. */
  async function takeRoots(told: string, renewed: string | null): Promise<void> {
    const changed = told !== roots;
    adoptRoots(told);
    // Also when only `config.trust` had them until now.
    if (changed || (await kept?.loadRoots()) === null) await keep(() => kept?.saveRoots(told));
    if (!changed) return;
    const others = [...ids].filter((id) => id !== renewed).map(rotation.svid);
    // The roots of a certificate are gone before its end only where the CA was replaced.
    if (others.some((svid) => svid !== null && svid.expiresAt > clock.now() && !isGood(svid))) rotation.renewAll();
  }

  /** What was obtained is used all the same; only a restart would miss it. */
  async function keep(write: () => Promise<void> | undefined): Promise<void> {
    try {
      await write();
      keepingProblem = null;
    } catch (error) {
      const message = `certificates will not outlive a restart: ${(error as Error).message}`;
      if (message !== keepingProblem) log.warn(message);
      keepingProblem = message;
    }
  }

  async function refreshRoots(): Promise<void> {
    try {
      await takeRoots(await remote.roots(roots), null);
      rootsFailures = 0;
      rootsProblem = null;
    } catch (error) {
      if (abort.signal.aborted) return;
      rootsFailures += 1;
      rootsProblem = `the roots of ${trustDomain} could not be refreshed: ${(error as Error).message}`;
      if (rootsFailures === ROOTS_FAILURES) log.warn(rootsProblem);
    }
  }

  function refreshLater(): void {
    cancelRoots();
    if (abort.signal.aborted) return;
    cancelRoots = clock.after(ROOTS_MS * (0.8 + 0.4 * random()), () => void refreshRoots().then(refreshLater));
  }

  async function need(wanted: readonly string[]): Promise<void> {
    const foreign = wanted.find((id) => parseSpiffeId(id)?.trustDomain !== trustDomain);
    if (foreign !== undefined)
      throw new Error(`${foreign} is not of the trust domain ${trustDomain}, whose CA is at ${config.url}`);
    if (wanted.length === 0) return;
    const first = kept === null;
    const files = await open();
    for (const id of wanted) {
      ids.add(id);
      await adoptKept(files, id);
    }
    if (first && wanted.some((id) => rotation.svid(id) !== null))
      await Promise.race([refreshRoots(), sleep(ROOTS_AT_START_MS, undefined, { ref: false })]);
    await rotation.need(wanted);
    opened = true;
    listeners.open();
    refreshLater();
  }

  return {
    need,
    svid: rotation.svid,
    bundles: () => (opened ? bundles : NONE),
    onChange: listeners.add,
    warnings() {
      const refreshing = rootsFailures >= ROOTS_FAILURES ? rootsProblem : null;
      return [keepingProblem, refreshing, ...rotation.warnings()].filter((one): one is string => one !== null);
    },
    close() {
      abort.abort();
      cancelRoots();
      rotation.close();
      listeners.close();
    },
  };
}

const NONE: TrustBundles = new Map();

// A certificate that something else keeps in files: cert-manager, a CA's own agent, an operator.
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { open } from 'node:fs/promises';
import { type IdentityDeps, withDefaults } from './deps.ts';
import { expiryWarning } from './expiry.ts';
import { inFile, unusable } from './in-file.ts';
import { makeListeners } from './listeners.ts';
import { checkedSvid } from './loaded-svid.ts';
import type { IdentitySource, Svid, TrustBundles } from './source.ts';
import { certificatesPem, readCertificates, readRoots } from './trust.ts';

/** Files are replaced one after the other: until they fit again they get this long before it is worth a warning. */
const SETTLE_MS = 5_000;

/** How often expiry, and a set that does not fit, are looked at without any event. */
const CHECK_MS = 60_000;

const MAX_FILE_BYTES = 1024 * 1024;

export interface IdentityFiles {
  /** Paths. PEM: the leaf, then its intermediates. */
  readonly cert: string;
  readonly key: string;
  /** The roots of the trust domain. */
  readonly ca: string;
}

interface FileSet {
  readonly svid: Svid;
  /** PEM. */
  readonly roots: string;
}

/** One pair of files serves one id. */
export function filesSource(files: IdentityFiles, given: IdentityDeps): IdentitySource {
  const { trustDomain, log, clock, watchFiles } = withDefaults(given);
  const listeners = makeListeners((error) => log.warn(`a user of certificates has failed: ${error.message}`));
  const watch = watchFiles(() => void reload(), {
    onError: (error, directory) => log.warn(`${directory} cannot be watched, it is read every 5 s: ${error.message}`),
  });
  let needed: string | null = null;
  let inForce: FileSet | null = null;
  let bundles: TrustBundles = new Map();
  /** Since when the files as they are cannot be used; null: they are in force. */
  let badSince: number | null = null;
  /** Why, once they had the time to fit. */
  let problem: string | null = null;
  let expiryTold: string | null = null;
  let cancelSettling = (): void => {};
  let cancelCheck = (): void => {};
  let last: Promise<unknown> = Promise.resolve();
  let closed = false;

  /** One after the other: what was read earlier must not take the place of what was read later. */
  function reload(): Promise<void> {
    const reloading = last.then(replace);
    last = reloading;
    return reloading;
  }

  async function replace(): Promise<void> {
    if (closed || inForce === null) return;
    const { id } = inForce.svid;
    try {
      const found = await readSet(files, trustDomain, clock.now());
      if (found.svid.id !== id) throw new Error(wrongId(files, found.svid.id, id));
      if (!closed) use(found);
    } catch (error) {
      if (!closed) wait((error as Error).message);
    }
  }

  function use(found: FileSet): void {
    const before = inForce;
    inForce = found;
    cancelSettling();
    if (problem !== null) log.info(`${files.cert}, ${files.key} and ${files.ca} can be used again`);
    badSince = null;
    problem = null;
    if (found.roots !== before?.roots) bundles = new Map([[trustDomain, found.roots]]);
    if (found.roots !== before?.roots || found.svid.cert !== before?.svid.cert) listeners.tell();
  }

  function wait(reason: string): void {
    const now = clock.now();
    badSince ??= now;
    cancelSettling();
    const left = badSince + SETTLE_MS - now;
    if (left > 0) cancelSettling = clock.after(left, () => void reload());
    else if (problem !== reason) {
      problem = reason;
      log.warn(`${reason}; the certificate from before stays in use`);
    }
  }

  function checkLater(): void {
    cancelCheck();
    cancelCheck = clock.after(CHECK_MS, () => {
      if (badSince !== null) void reload();
      const expiry = warningOfExpiry();
      // Once, and once more when it has expired.
      if (expiry !== null && expiry !== expiryTold) log.warn(expiry);
      expiryTold = expiry;
      checkLater();
    });
  }

  function warningOfExpiry(): string | null {
    return inForce === null ? null : expiryWarning(inForce.svid, files.cert, clock.now());
  }

  async function begin(id: string): Promise<void> {
    const since = Date.now();
    const found = await readSet(files, trustDomain, clock.now());
    if (found.svid.id !== id) throw new Error(wrongId(files, found.svid.id, id));
    await watch.update([files.cert, files.key, files.ca], since);
    use(found);
    checkLater();
  }

  async function need(ids: readonly string[]): Promise<void> {
    const all = [...new Set(needed === null ? ids : [needed, ...ids])];
    if (all.length === 0) return;
    if (all.length > 1)
      throw new Error(
        `${files.cert} can serve one id, this process needs ${all.join(' and ')}: run them as processes of their own, or use another source of certificates`,
      );
    const [id] = all;
    if (inForce === null) {
      needed = id;
      try {
        await begin(id);
      } catch (error) {
        needed = null;
        throw error;
      }
    }
    listeners.open();
  }

  return {
    need,
    svid: (id) => (inForce?.svid.id === id ? inForce.svid : null),
    bundles: () => bundles,
    onChange: listeners.add,
    warnings: () => [problem, warningOfExpiry()].filter((one): one is string => one !== null),
    close() {
      closed = true;
      cancelSettling();
      cancelCheck();
      watch.close();
      listeners.close();
    },
  };
}

function wrongId({ cert }: IdentityFiles, found: string, needed: string): string {
  return `${cert} is the certificate of ${found}, this process needs that of ${needed}`;
}

/** @throws Error that names the file */
async function readSet({ cert, key, ca }: IdentityFiles, trustDomain: string, now: number): Promise<FileSet> {
  const [certText, keyText, caText] = [await readText(cert), await readText(key), await readText(ca)];
  const roots = inFile(ca, () => certificatesPem(readRoots(caText)));
  const chain = inFile(cert, () => readCertificates(certText));
  const privateKey = inFile(key, () => readKey(keyText));
  return { svid: inFile(cert, () => checkedSvid(chain, privateKey, trustDomain, roots, now)), roots };
}

function readKey(text: string): KeyObject {
  if (/-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED/m.test(text)) throw new Error('the key is encrypted');
  return createPrivateKey(text);
}

async function readText(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    throw unusable(path, error);
  }
}

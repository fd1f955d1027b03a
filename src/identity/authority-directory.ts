// The CA of one machine as it lies on disk: made once, shared by all processes, its root followed by another one before it ends.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, readPrivate, removeLeftovers, writePrivate } from '../private-files.ts';
import {
  type Authority,
  INTERMEDIATE_LIFE_MS,
  keyPem,
  LEAF_LIFE_MS,
  makeIntermediate,
  makeRoot,
  openAuthority,
} from './authority.ts';
import { inFile } from './in-file.ts';
import { withLock } from './lock.ts';
import { pem, pemBlocks } from './pem.ts';
import { formatBundle, parseBundle, type TrustedRoot } from './root-bundle.ts';

/** How long a new root is trusted before it issues: until then everyone must have heard of it. */
export const SPREAD_MS = LEAF_LIFE_MS;

/** The old root leaves when the last leaf below it has expired, and an hour more for what was under way. */
const FAREWELL_MS = LEAF_LIFE_MS + 3_600_000;

/** Certificate and key in one file each: a pair is then never half old. `bundle.pem` has the roots that are trusted. */
const FILES = { root: 'root.pem', next: 'next-root.pem', intermediate: 'intermediate.pem', bundle: 'bundle.pem' };

export interface AuthorityState {
  /** The intermediate that issues. */
  readonly issuer: Authority;
  /** The root above it. */
  readonly root: Authority;
  /** PEM of the roots that are trusted. */
  readonly bundle: string;
}

/** What lies there, checked as far as each file goes. */
interface Found {
  readonly root: Authority | null;
  readonly next: Authority | null;
  readonly intermediate: Authority | null;
  readonly trusted: readonly TrustedRoot[] | null;
}

/** To watch. */
export function authorityFiles(dir: string): readonly string[] {
  return Object.values(FILES).map((name) => join(dir, name));
}

/**
 * The CA as it is, after whatever is due: made where the directory is empty (and `create` allows it), the intermediate renewed, a
 * rollover of the root taken a step further. Two processes that do this at once come to the same.
 * @throws Error that names the file: broken, readable by others, or missing while others are there
 */
export async function openAuthorityDirectory(
  dir: string,
  trustDomain: string,
  now: number,
  create = true,
): Promise<AuthorityState> {
  await privateDirectory(dir, create);
  const look = async (): Promise<Found> => {
    const found = await read(dir, trustDomain);
    if (found.root !== null || create) return found;
    throw new Error(`${dir} is empty, its CA is gone: restore it, or restart to begin with a new one`);
  };
  const settled = settledState(await look(), now);
  if (settled !== null) return settled;
  return withLock(join(dir, 'lock'), async () => {
    const found = await look();
    await removeLeftovers(dir);
    return settledState(found, now) ?? settle(dir, trustDomain, found, now);
  });
}

/**
 * Begins a rollover: from now on a second root is trusted; after a day it issues; another day later the old one leaves. Running
 * processes take the steps when they are due. False: a rollover is already under way.
 */
export async function rollRoot(dir: string, trustDomain: string, now: number): Promise<boolean> {
  await openAuthorityDirectory(dir, trustDomain, now, false);
  return withLock(join(dir, 'lock'), async () => {
    const found = await read(dir, trustDomain);
    if (found.next !== null) return false;
    await settle(dir, trustDomain, { ...found, next: await writeNext(dir, trustDomain, now) }, now);
    return true;
  });
}

async function read(dir: string, trustDomain: string): Promise<Found> {
  const path = (name: string): string => join(dir, name);
  const authority = (name: string): Promise<Authority | null> => readAuthority(path(name), trustDomain);
  const bundle = await readPrivate(path(FILES.bundle));
  const trusted = bundle === null ? null : inFile(path(FILES.bundle), () => parseBundle(bundle));
  const [intermediate, next, root] = [
    await authority(FILES.intermediate),
    await authority(FILES.next),
    await authority(FILES.root),
  ];
  const orphan = [intermediate && FILES.intermediate, next && FILES.next, trusted && FILES.bundle].find(
    (name) => name !== null,
  );
  if (root === null && orphan !== undefined)
    throw new Error(
      `${path(FILES.root)} is missing, though ${orphan} is there: restore it, or empty ${dir} to begin with a new CA`,
    );
  return { root, next, intermediate, trusted };
}

/** Null: something has to be done first. */
function settledState({ root, next, intermediate, trusted }: Found, now: number): AuthorityState | null {
  if (root === null || intermediate === null || trusted === null) return null;
  const complete = [root, next].every(
    (one) => one === null || trusted.some(({ certificate }) => sameCertificate(certificate, one)),
  );
  const due = isDue(intermediate, root, now) || trusted.some(({ until }) => until <= now);
  const rolling = next === null ? endsSoon(root, now) : issuesFrom(next) <= now;
  return complete && !due && !rolling ? stateOf(root, intermediate, trusted) : null;
}

/** Each step can be broken off and is then taken again, by whoever comes next. */
async function settle(dir: string, trustDomain: string, found: Found, now: number): Promise<AuthorityState> {
  const write = (name: string, content: string): Promise<void> => writePrivate(join(dir, name), content);
  let { root, next, intermediate } = found;
  if (root === null) {
    root = await makeRoot(trustDomain, { now });
    // The default directory lies in the project's own.
    await write('.gitignore', '*\n');
    await write(FILES.root, authorityPem(root));
  }
  if (next === null && endsSoon(root, now)) next = await writeNext(dir, trustDomain, now);
  const old = root;
  const switching = next !== null && issuesFrom(next) <= now;
  if (next !== null && switching) root = next;

  const kept = (found.trusted ?? []).filter(({ until }) => until > now);
  const leaving = kept.map((one) =>
    switching && sameCertificate(one.certificate, old) ? { ...one, until: now + FAREWELL_MS } : one,
  );
  const added = [root, next].filter((one): one is Authority => one !== null);
  const trusted = [...leaving];
  for (const { certificate } of added)
    if (!trusted.some((one) => one.certificate.raw.equals(certificate.raw)))
      trusted.push({ certificate, until: Number.POSITIVE_INFINITY });

  if (formatBundle(trusted) !== formatBundle(found.trusted ?? [])) await write(FILES.bundle, formatBundle(trusted));
  if (intermediate === null || isDue(intermediate, root, now)) {
    intermediate = await makeIntermediate(root, trustDomain, { now });
    await write(FILES.intermediate, authorityPem(intermediate));
  }
  if (switching) {
    await write(FILES.root, authorityPem(root));
    await rm(join(dir, FILES.next), { force: true });
  }
  return stateOf(root, intermediate, trusted);
}

async function writeNext(dir: string, trustDomain: string, now: number): Promise<Authority> {
  const next = await makeRoot(trustDomain, { now });
  await writePrivate(join(dir, FILES.next), authorityPem(next));
  return next;
}

function stateOf(root: Authority, issuer: Authority, trusted: readonly TrustedRoot[]): AuthorityState {
  return { root, issuer, bundle: trusted.map(({ certificate }) => pem('CERTIFICATE', certificate.raw)).join('') };
}

/** An intermediate at two thirds of its life, and one of another root. */
function isDue({ certificate, facts }: Authority, root: Authority, now: number): boolean {
  if (!certificate.checkIssued(root.certificate) || !certificate.verify(root.certificate.publicKey)) return true;
  return now >= facts.notBefore + ((facts.notAfter - facts.notBefore) * 2) / 3;
}

/** So that no intermediate is ever cut short by its root. */
function endsSoon({ facts }: Authority, now: number): boolean {
  return facts.notAfter - now < INTERMEDIATE_LIFE_MS + SPREAD_MS;
}

function issuesFrom({ facts }: Authority): number {
  return facts.notBefore + SPREAD_MS;
}

function sameCertificate(certificate: X509Certificate, authority: Authority): boolean {
  return certificate.raw.equals(authority.certificate.raw);
}

function authorityPem({ certificate, key }: Authority): string {
  return pem('CERTIFICATE', certificate.raw) + keyPem(key);
}

async function readAuthority(path: string, trustDomain: string): Promise<Authority | null> {
  const text = await readPrivate(path);
  if (text === null) return null;
  return inFile(path, () => {
    const [certificates, keys] = [pemBlocks(text, 'CERTIFICATE'), pemBlocks(text, 'PRIVATE KEY')];
    if (certificates.length !== 1 || keys.length !== 1) throw new Error('it is not one certificate and one key');
    const certificate = new X509Certificate(certificates[0]);
    const authority = openAuthority(certificate, createPrivateKey({ key: keys[0], format: 'der', type: 'pkcs8' }));
    const [uri] = authority.facts.uris;
    if (uri !== `spiffe://${trustDomain}`)
      throw new Error(
        `it belongs to ${uri ?? 'no trust domain'}, not to spiffe://${trustDomain}: choose another directory`,
      );
    return authority;
  });
}

// What a workload shows a CA service once, instead of a certificate: tokens bound to an identity, kept as hashes, one file each.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, readPrivate, syncDirectory, writePrivate } from '../../private-files.ts';
import { inFile } from '../in-file.ts';
import { parseSpiffeId } from '../spiffe-id.ts';

/** Records at most, spent ones included: each is a file of 200 bytes. */
export const MAX_TOKENS = 10_000;

/** How long it is remembered what became of a token after its end, so that whoever comes too late is told why. */
const REMEMBERED_MS = 86_400_000;

/** Path of the id, name of the record, secret. Characters of a bearer token (RFC 6750, section 2.1); no id has a tilde. */
const TOKEN = /^([A-Za-z0-9._/-]{1,2048})~([0-9a-f]{16})~([A-Za-z0-9_-]{43})$/;
const RECORD_FILE = /^[0-9a-f]{16}\.(?:json|used)$/;

interface TokenRecord {
  /** SPIFFE id. */
  readonly id: string;
  /** Hex, SHA-256 of the secret: random enough that no salt and no slow hash is needed. */
  readonly hash: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export type TokenVerdict =
  /** `consume` resolves with false when somebody else was faster; true: nobody will ever have it again. */
  | { readonly ok: true; readonly name: string; readonly id: string; consume(): Promise<boolean> }
  | { readonly ok: false; readonly name: string | null; readonly reason: TokenFault };

export type TokenFault = 'token_invalid' | 'token_expired' | 'token_used';

/**
 * Several tokens with commas or spaces between them, by the SPIFFE id that each says it is for; only its issuer knows whether that is
 * true. @throws Error, which does not repeat them
 */
export function readTokens(text: string, trustDomain: string): Map<string, string> {
  const words = text.split(/[\s,]+/).filter((word) => word !== '');
  const byId = words.map((token, index) => {
    const path = TOKEN.exec(token)?.[1];
    if (path === undefined)
      throw new Error(`join token ${index + 1} of ${words.length} is not one: selvedge ca issue makes them`);
    return [`spiffe://${trustDomain}/${path}`, token] as const;
  });
  return new Map(byId);
}

/** The only time that the token is seen. @throws Error when there are too many */
export async function makeToken(dir: string, id: string, dates: { now: number; lifeMs: number }): Promise<string> {
  const tokens = join(dir, 'tokens');
  await privateDirectory(tokens, true);
  await forget(tokens, dates.now);
  const name = randomBytes(8).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  const record: TokenRecord = { id, hash: hashOf(secret).toString('hex'), expiresAt: dates.now + dates.lifeMs };
  await writePrivate(join(tokens, `${name}.json`), `${JSON.stringify(record)}\n`);
  return `${parseSpiffeId(id)?.path}~${name}~${secret}`;
}

/**
 * What a token is worth. Its record is found by a name that is no secret, the secret then compared in constant time. Spending it
 * renames the record, which one caller can do, across processes and crashes.
 * @throws Error for a record that cannot be read
 */
export async function checkToken(dir: string, token: string, now: number): Promise<TokenVerdict> {
  const [, , name, secret] = TOKEN.exec(token) ?? [];
  if (name === undefined) return { ok: false, name: null, reason: 'token_invalid' };
  const tokens = join(dir, 'tokens');
  const [fresh, spent] = [join(tokens, `${name}.json`), join(tokens, `${name}.used`)];
  const unspent = await readRecord(fresh);
  const record = unspent ?? (await readRecord(spent));
  if (record === null || !timingSafeEqual(hashOf(secret), Buffer.from(record.hash, 'hex')))
    return { ok: false, name, reason: 'token_invalid' };
  if (unspent === null) return { ok: false, name, reason: 'token_used' };
  if (record.expiresAt <= now) return { ok: false, name, reason: 'token_expired' };
  return { ok: true, name, id: record.id, consume: () => spend(tokens, fresh, spent) };
}

async function spend(tokens: string, fresh: string, spent: string): Promise<boolean> {
  try {
    await rename(fresh, spent);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  await syncDirectory(tokens);
  return true;
}

async function readRecord(path: string): Promise<TokenRecord | null> {
  const text = await readPrivate(path);
  if (text === null) return null;
  return inFile(path, () => {
    const { id, hash, expiresAt } = JSON.parse(text) as Partial<TokenRecord>;
    if (typeof id !== 'string' || typeof expiresAt !== 'number' || !/^[0-9a-f]{64}$/.test(hash ?? ''))
      throw new Error('it is not a record of a token');
    return { id, hash: hash as string, expiresAt };
  });
}

/** What has ended long ago. */
async function forget(tokens: string, now: number): Promise<void> {
  let count = 0;
  for (const file of await readdir(tokens)) {
    if (!RECORD_FILE.test(file)) continue;
    const path = join(tokens, file);
    // It may be spent, and so renamed, meanwhile.
    const record = await readRecord(path);
    if (record !== null && record.expiresAt + REMEMBERED_MS <= now) await rm(path, { force: true });
    else count += 1;
  }
  if (count >= MAX_TOKENS) throw new Error(`${tokens} has ${count} join tokens: wait until some have ended`);
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

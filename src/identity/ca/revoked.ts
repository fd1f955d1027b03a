// Identities whose certificates were given up: what was issued before that moment renews no more. Certificates in use end by themselves.
import { join } from 'node:path';
import { readPrivate, writePrivate } from '../../private-files.ts';
import { BACKDATED_MS, LEAF_LIFE_MS } from '../authority.ts';
import { inFile } from '../in-file.ts';
import { withLock } from '../lock.ts';

/** By SPIFFE id: when, in milliseconds since the epoch. Bounded by what is given up within a day. */
type Revocations = Readonly<Record<string, number>>;

const MAX_REVOKED = 5_000;

/** From the next request on. @throws Error when there are too many */
export async function revoke(dir: string, id: string, now: number): Promise<void> {
  await withLock(join(dir, 'lock'), async () => {
    // What was issued before an older one has expired.
    const recent = Object.entries(await read(dir)).filter(([, at]) => at + LEAF_LIFE_MS + BACKDATED_MS > now);
    if (recent.length >= MAX_REVOKED) throw new Error(`${recent.length} identities were given up within a day`);
    await writePrivate(pathIn(dir), `${JSON.stringify(Object.fromEntries([...recent, [id, now]]), null, 2)}\n`);
  });
}

/** `notBefore` of a certificate of this CA. @throws Error for a list that cannot be read: then nobody renews */
export async function isRevoked(dir: string, id: string, notBefore: number): Promise<boolean> {
  const revocations = await read(dir);
  // Certificates count whole seconds: those of the same one are given up too.
  return Object.hasOwn(revocations, id) && notBefore + BACKDATED_MS <= revocations[id];
}

function pathIn(dir: string): string {
  return join(dir, 'revoked.json');
}

async function read(dir: string): Promise<Revocations> {
  const text = await readPrivate(pathIn(dir));
  if (text === null) return {};
  return inFile(pathIn(dir), () => {
    const found: unknown = JSON.parse(text);
    if (typeof found !== 'object' || found === null || !Object.values(found).every((at) => typeof at === 'number'))
      throw new Error('it is not a list of ids with times');
    return found as Revocations;
  });
}

// A CA directory says itself which trust domain it belongs to.
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { readPrivate } from '../../private-files.ts';
import { certificateFacts } from '../certificate-facts.ts';
import { inFile } from '../in-file.ts';
import { pemBlocks } from '../pem.ts';
import { parseSpiffeId } from '../spiffe-id.ts';

/** Null: there is no CA. @throws Error for one that cannot be read */
export async function trustDomainOf(dir: string): Promise<string | null> {
  const path = join(dir, 'root.pem');
  const text = await readPrivate(path);
  if (text === null) return null;
  return inFile(path, () => {
    const [der] = pemBlocks(text, 'CERTIFICATE');
    const id = der === undefined ? null : certificateFacts(new X509Certificate(der)).uris[0];
    const found = parseSpiffeId(id ?? '');
    if (found === null) throw new Error('it is not the root of a trust domain');
    return found.trustDomain;
  });
}

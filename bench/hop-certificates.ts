// Certificates for the hops of nginx and Envoy: keys and chains of the same kind as those of Selvedge's.
import { createPublicKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueForHosts, issueSvid, keyPem, makeIntermediate, makeKey, makeRoot } from '../src/identity/authority.ts';
import { pem } from '../src/identity/pem.ts';

/** nginx checks names of hosts only. */
export const SERVER_NAME = 'app.bench.internal';
export const CALLER_ID = 'spiffe://bench.internal/service/caller';

interface Files {
  readonly cert: string;
  readonly key: string;
}

/** Paths of PEM files. */
export interface Certificates {
  readonly roots: string;
  readonly caller: Files;
  readonly callee: Files;
}

export async function makeCertificates(dir: string): Promise<Certificates> {
  const dates = { now: Date.now() };
  const root = await makeRoot('bench.internal', dates);
  const issuer = await makeIntermediate(root, 'bench.internal', dates);
  const caller = await issueSvid(issuer, CALLER_ID, dates);
  const key = await makeKey();
  const callee = { key: keyPem(key), ...issueForHosts(issuer, [SERVER_NAME], createPublicKey(key), dates) };
  const write = (name: string, { cert, key }: Files): Files => {
    const files = { cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) };
    writeFileSync(files.cert, cert);
    writeFileSync(files.key, key, { mode: 0o600 });
    return files;
  };
  const roots = join(dir, 'roots.crt');
  writeFileSync(roots, pem('CERTIFICATE', root.certificate.raw));
  return { roots, caller: write('caller', caller), callee: write('callee', callee) };
}

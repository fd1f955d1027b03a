// Whole trust domains for tests, and certificates that no authority of ours would issue.
import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Authority, keyPem, makeIntermediate, makeRoot } from '../../../src/identity/authority.ts';
import { pem, pemBlocks } from '../../../src/identity/pem.ts';

/** For `skip`: false, or why. */
export const noOpenssl =
  spawnSync('openssl', ['version']).status === 0
    ? false
    : 'openssl is not installed: certificates are not checked against it';

export interface Domain {
  readonly trustDomain: string;
  readonly root: Authority;
  readonly intermediate: Authority;
  /** PEM. */
  readonly bundle: string;
}

export async function makeDomain(trustDomain: string, now = Date.now()): Promise<Domain> {
  const root = await makeRoot(trustDomain, { now });
  const intermediate = await makeIntermediate(root, trustDomain, { now });
  return { trustDomain, root, intermediate, bundle: certificatePem(root) };
}

export function certificatePem({ certificate }: Authority): string {
  return pem('CERTIFICATE', certificate.raw);
}

/** The certificates of a PEM text. */
export function chainOf(text: string): X509Certificate[] {
  return pemBlocks(text, 'CERTIFICATE').map((der) => new X509Certificate(der));
}

export interface Forged {
  /** PEM: the certificate, then its issuer. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

/** By openssl: a certificate with any extensions at all (`subjectAltName=URI:spiffe://a/b`), signed by an authority; for a new key unless one is given. */
export function forge(t: Test, issuer: Authority, extensions: readonly string[], ownKey?: string): Forged {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-forge-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = (name: string): string => join(dir, name);
  writeFileSync(path('ca.pem'), certificatePem(issuer));
  writeFileSync(path('ca.key'), keyPem(issuer.key));
  writeFileSync(path('ext'), `${extensions.join('\n')}\n`);
  if (ownKey === undefined)
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', path('key'));
  else writeFileSync(path('key'), ownKey);
  openssl('req', '-new', '-key', path('key'), '-subj', '/CN=forged', '-out', path('csr'));
  openssl(
    ...['x509', '-req', '-in', path('csr'), '-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-days', '1'],
    ...['-extfile', path('ext'), '-out', path('crt')],
  );
  const own = readFileSync(path('crt'), 'utf8');
  return { cert: issuer.isRoot ? own : own + certificatePem(issuer), key: readFileSync(path('key'), 'utf8') };
}

/** Its output. @throws Error with what it said */
export function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
}

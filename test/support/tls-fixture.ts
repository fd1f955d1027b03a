// Certificates for tests, made by openssl: real chains, short-lived, in a folder that goes with the test.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateRequest {
  /** Common name. */
  readonly name: string;
  /** Type and value: `DNS:a.test`, `URI:spiffe://a/b`. */
  readonly altNames?: readonly string[];
}

export class TestCa {
  readonly dir: string;
  /** Path of the CA certificate. */
  readonly cert: string;
  readonly #key: string;
  #issued = 0;

  constructor(t: Test, name = 'test CA') {
    this.dir = mkdtempSync(join(tmpdir(), 'selvedge-ca-'));
    t.teardown(() => rmSync(this.dir, { recursive: true, force: true }));
    this.cert = join(this.dir, 'ca.crt');
    this.#key = join(this.dir, 'ca.key');
    newKey(this.#key);
    openssl('req', '-x509', '-key', this.#key, '-subj', `/CN=${name}`, '-days', '1', '-out', this.cert);
  }

  issue({ name, altNames = [] }: CertificateRequest): CertificateFiles {
    const base = join(this.dir, `leaf-${++this.#issued}`);
    const [cert, key, request, extensions] = [`${base}.crt`, `${base}.key`, `${base}.csr`, `${base}.ext`];
    newKey(key);
    openssl('req', '-new', '-key', key, '-subj', `/O=Selvedge/CN=${name}`, '-out', request);
    const lines = altNames.map((name, index) => name.replace(':', `.${index + 1}=`));
    writeFileSync(
      extensions,
      lines.length === 0 ? 'basicConstraints=CA:FALSE' : `subjectAltName=@names\n[names]\n${lines.join('\n')}\n`,
    );
    openssl(
      'x509',
      '-req',
      '-in',
      request,
      '-CA',
      this.cert,
      '-CAkey',
      this.#key,
      '-days',
      '1',
      '-extfile',
      extensions,
      '-out',
      cert,
    );
    return { cert, key };
  }

  /** The content of the CA certificate, for clients. */
  get pem(): Buffer {
    return readFileSync(this.cert);
  }
}

function newKey(path: string): void {
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path);
}

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}

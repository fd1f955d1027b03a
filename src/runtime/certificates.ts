// The certificates of one TLS listener: read from disk, chosen by server name in the handshake, swapped in place when the files change.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import type { ListenerTls, Place } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { serverNames } from './subject-names.ts';

/** Contexts that one handshake may switch between must agree on it, or a resumed session with a client certificate is refused. */
const SESSION_ID_CONTEXT = 'selvedge';

type CertificateFiles = ListenerTls['certificates'][number];

/** One certificate with its key, ready for handshakes. */
export interface ServedCertificate {
  readonly files: CertificateFiles;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Lower-case; `*.example.com` stands for exactly one label (RFC 6125 section 6.4.3). */
  readonly names: ReadonlySet<string>;
  readonly context: SecureContext;
}

export class Certificates {
  #tls: ListenerTls;
  #ca: Buffer | null;
  #served: readonly ServedCertificate[];
  #byName: ReadonlyMap<string, ServedCertificate>;

  /** Throws for files that cannot be read or do not belong together. */
  constructor(tls: ListenerTls) {
    this.#tls = tls;
    this.#ca = readCa(tls);
    this.#served = tls.certificates.map((files) => serve(files, readPair(files), tls, this.#ca));
    this.#byName = indexByName(this.#served);
  }

  /** Exact name before wildcard before the first certificate, which also serves clients that name no server. `host` lower-case. */
  choose(host: string): ServedCertificate {
    return this.#byName.get(host) ?? this.#byName.get(wildcardOf(host)) ?? this.#served[0];
  }

  /** One certificate serves every host: no need to ask which. */
  get single(): boolean {
    return this.#served.length === 1;
  }

  /** What `setSecureContext` takes, for clients that name no server. */
  get defaultOptions(): SecureContextOptions {
    return contextOptions(this.#served[0], this.#tls, this.#ca);
  }

  /**
   * Reads every file again, for `tls` from now on. A pair that cannot be used (half written, key of another certificate) keeps the one in
   * force and is returned as a problem. `changed` is false when everything is as it was: session tickets then stay valid.
   */
  reload(tls: ListenerTls): { readonly changed: boolean; readonly problems: readonly Problem[] } {
    const problems: Problem[] = [];
    const attempt = <T>(at: Place | null, read: () => T, otherwise: T): T => {
      try {
        return read();
      } catch (error) {
        problems.push({ severity: 'error', place: at, path: '', message: (error as Error).message });
        return otherwise;
      }
    };
    const ca = attempt(null, () => readCa(tls), this.#ca);
    const before = this.#tls;
    const sameMode = tls.clientCertificate?.mode === before.clientCertificate?.mode;
    const policyChanged = tls.minVersion !== before.minVersion || !sameMode || !sameBytes(ca, this.#ca);
    const served = tls.certificates.flatMap((files) => {
      const old = this.#served.find((one) => one.files.cert === files.cert && one.files.key === files.key);
      const read = (): ServedCertificate => {
        const pair = readPair(files);
        const same = old !== undefined && !policyChanged && old.cert.equals(pair.cert) && old.key.equals(pair.key);
        return same ? old : serve(files, pair, tls, ca);
      };
      return attempt(files.at, read, old) ?? [];
    });
    this.#tls = tls;
    // Nothing usable: what the listener serves now is better than no handshake at all.
    if (served.length === 0) return { changed: false, problems };
    const same = served.length === this.#served.length && served.every((one, index) => one === this.#served[index]);
    this.#ca = ca;
    this.#served = served;
    this.#byName = indexByName(served);
    return { changed: policyChanged || !same, problems };
  }
}

/** True when the certificate is valid for `host` (lower-case, without port). */
export function covers(served: ServedCertificate, host: string): boolean {
  return served.names.has(host) || served.names.has(wildcardOf(host));
}

/** `*.b.c` for `a.b.c`. */
function wildcardOf(host: string): string {
  return `*${host.slice(host.indexOf('.'))}`;
}

/** The first certificate with a name has it. */
function indexByName(served: readonly ServedCertificate[]): ReadonlyMap<string, ServedCertificate> {
  const byName = new Map<string, ServedCertificate>();
  for (const one of served) {
    for (const name of one.names) if (!byName.has(name)) byName.set(name, one);
  }
  return byName;
}

/** Synchronous on purpose: a few small files, at start and at rotation, and pair and context then belong together. */
function readPair({ cert, key }: CertificateFiles): { readonly cert: Buffer; readonly key: Buffer } {
  return { cert: readFile(cert), key: readFile(key) };
}

function readCa({ clientCertificate }: ListenerTls): Buffer | null {
  if (clientCertificate === null) return null;
  const ca = readFile(clientCertificate.ca);
  inFile(clientCertificate.ca, () => new X509Certificate(ca));
  return ca;
}

function serve(
  files: CertificateFiles,
  { cert, key }: { readonly cert: Buffer; readonly key: Buffer },
  tls: ListenerTls,
  ca: Buffer | null,
): ServedCertificate {
  const leaf = inFile(files.cert, () => new X509Certificate(cert));
  const privateKey = inFile(files.key, () => createPrivateKey(key));
  if (!leaf.checkPrivateKey(privateKey))
    throw new Error(`${files.key} is not the key of the certificate in ${files.cert}`);
  const context = inFile(files.cert, () => createSecureContext(contextOptions({ cert, key }, tls, ca)));
  return { files, cert, key, names: new Set(serverNames(leaf)), context };
}

function contextOptions(
  { cert, key }: { readonly cert: Buffer; readonly key: Buffer },
  { minVersion }: ListenerTls,
  ca: Buffer | null,
): SecureContextOptions {
  return { cert, key, minVersion, sessionIdContext: SESSION_ID_CONTEXT, ...(ca === null ? {} : { ca }) };
}

function readFile(path: string): Buffer {
  return inFile(path, () => readFileSync(path));
}

/** Node's errors about PEM text do not say where it was. */
function inFile<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw new Error(`${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function sameBytes(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

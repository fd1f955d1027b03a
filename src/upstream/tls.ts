// How endpoints outside the mesh are dialled over TLS: verified, by name, with the system's CAs unless others are given.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, createSecureContext, type SecureContext } from 'node:tls';
import type { UpstreamTls } from '../config/model.ts';

/** The files of one `tls` block, read once for all endpoints of the service. */
export interface UpstreamCredentials {
  readonly tls: UpstreamTls;
  readonly context: SecureContext;
  /** Changes with the settings and with the content of the files, so that a rotated certificate gets new connections. */
  readonly digest: string;
}

const MIN_VERSION = 'TLSv1.2';

/** @throws Error naming the key (`tls.ca`) and the file that cannot be read or is not valid. */
export function readCredentials(tls: UpstreamTls): UpstreamCredentials {
  const ca = read('ca', tls.ca);
  const cert = read('cert', tls.cert);
  const key = read('key', tls.key);
  const hash = createHash('sha256').update(JSON.stringify([tls.serverName, tls.verify]));
  for (const content of [ca, cert, key]) hash.update(`\0${content?.length ?? -1}\0`).update(content ?? '');
  let context: SecureContext;
  try {
    context = createSecureContext({ ca, cert, key, minVersion: MIN_VERSION });
  } catch (error) {
    const files = [tls.ca, tls.cert, tls.key].filter((file) => file !== null).join(', ');
    throw new Error(`tls: ${files} cannot be used: ${messageOf(error)}`, { cause: error });
  }
  return { tls, context, digest: hash.digest('base64url') };
}

function read(name: string, file: string | null): Buffer | undefined {
  if (file === null) return undefined;
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`tls.${name}: ${file} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Options of tls.connect for one host. An IP address is never sent as SNI (RFC 6066 section 3), but verified as an IP SAN. */
export function connectionOptions({ tls, context }: UpstreamCredentials, host: string): ConnectionOptions {
  const name = tls.serverName ?? host;
  const options: ConnectionOptions = {
    host,
    secureContext: context,
    minVersion: MIN_VERSION,
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: tls.verify,
  };
  if (isIP(name) === 0) options.servername = name;
  else options.checkServerIdentity = (_host, certificate) => checkServerIdentity(name, certificate);
  return options;
}

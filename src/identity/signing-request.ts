// Certificate signing requests (PKCS #10, RFC 2986): a workload proves with one that it holds the key it wants a certificate for.
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { OID } from './certificate-facts.ts';
import {
  bitString,
  contextTag,
  DerReader,
  element,
  oid,
  onlyElement,
  readBits,
  readOid,
  sequence,
  TAG,
  unsigned,
} from './der.ts';
import { pem, pemBlocks } from './pem.ts';

/** Bytes of a request at most, as PEM: one of ours has 450. */
export const MAX_REQUEST_BYTES = 16 * 1024;

/** PEM. `key` is private, P-256. The subject is empty: who the holder is, the authority decides. */
export function makeRequest(key: KeyObject): string {
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const body = sequence(unsigned(Buffer.of(0)), sequence(), publicKey, element(contextTag(0)));
  const signature = sign('sha256', body, key);
  return pem('CERTIFICATE REQUEST', sequence(body, sequence(oid(OID.ecdsaWithSha256)), bitString(signature)));
}

/**
 * The public key of a request (PEM) that is signed with it. Nothing else that the request says is believed or looked at: neither
 * its subject nor the extensions that it asks for.
 * @throws Error with what is wrong with it
 */
export function keyOfRequest(request: string): KeyObject {
  if (request.length > MAX_REQUEST_BYTES) throw new Error(`the request has more than ${MAX_REQUEST_BYTES} bytes`);
  const blocks = pemBlocks(request, 'CERTIFICATE REQUEST');
  if (blocks.length !== 1) throw new Error('the request is not one PEM block CERTIFICATE REQUEST');
  let parts: RequestParts;
  try {
    parts = readRequest(blocks[0]);
  } catch (error) {
    throw new Error(`the request is malformed: ${(error as Error).message}`, { cause: error });
  }
  const { body, publicKey, algorithm, signature } = parts;
  if (algorithm !== OID.ecdsaWithSha256) throw new Error('the request is not signed by ECDSA with SHA-256');
  const key = p256Key(publicKey);
  if (!verify('sha256', body, key, signature)) throw new Error('the request is not signed with its own key');
  return key;
}

interface RequestParts {
  readonly body: Buffer;
  readonly publicKey: Buffer;
  readonly algorithm: string;
  readonly signature: Buffer;
}

function readRequest(der: Buffer): RequestParts {
  const request = new DerReader(onlyElement(der).content);
  const body = request.expect(TAG.sequence);
  const inner = new DerReader(body.content);
  const version = inner.expect(TAG.integer).content;
  if (version.length !== 1 || version[0] !== 0) throw new Error('its version is not 1');
  inner.expect(TAG.sequence);
  const publicKey = inner.expect(TAG.sequence).raw;
  inner.optional(contextTag(0));
  inner.end();
  const algorithm = readOid(request.enter().expect(TAG.oid));
  const signature = readBits(request.expect(TAG.bitString));
  request.end();
  return { body: body.raw, publicKey, algorithm, signature };
}

/** Of a SubjectPublicKeyInfo (DER). */
function p256Key(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, type: 'spki', format: 'der' });
  } catch (error) {
    throw new Error('the key of the request cannot be read', { cause: error });
  }
  if (!isP256(key)) throw new Error('the key of the request is not of the curve P-256');
  return key;
}

export function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}

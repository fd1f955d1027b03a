// A secret that nobody outside has: for what is to hold until the process ends, and no longer.
import { randomBytes } from 'node:crypto';

let secret: Buffer | null = null;

/** 32 bytes. Workers of one supervisor have the same. */
export function processSecret(): Buffer {
  secret ??= randomBytes(32);
  return secret;
}

/** Call it before anything asks for the secret. */
export function setProcessSecret(shared: Buffer): void {
  secret = shared;
}

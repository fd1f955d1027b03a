// A CA service as its clients see it: what can be had from it, checked as if anybody had sent it.
import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { makeKey } from '../authority.ts';
import type { Clock } from '../clock.ts';
import { unusable } from '../in-file.ts';
import { checkedSvid } from '../loaded-svid.ts';
import { makeRequest } from '../signing-request.ts';
import type { Svid } from '../source.ts';
import { certificatesPem, readCertificates, readRoots } from '../trust.ts';
import { askCa } from './ask.ts';

export interface RemoteAuthority {
  /** PEM of `trust`, read anew each time: the file may be replaced. */
  trusted(): Promise<string>;
  /** With a new key. Proved by a certificate that is to be renewed, or by a join token. @throws CaFailure, Error */
  certify(id: string, proof: CaProof, known: string | null): Promise<{ readonly svid: Svid; readonly roots: string }>;
  /** PEM. `known`: the roots that the service has told before; it may prove itself by them as well. */
  roots(known: string | null): Promise<string>;
}

export type CaProof = { readonly certificate: Svid } | { readonly token: string };

export interface RemoteAuthorityOptions {
  readonly url: string;
  /** Path of a PEM file. */
  readonly trust: string;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export function remoteAuthority({ url, trust, trustDomain, clock, signal }: RemoteAuthorityOptions): RemoteAuthority {
  const base = url.endsWith('/') ? url : `${url}/`;

  async function trusted(): Promise<string> {
    try {
      return certificatesPem(readRoots(await readFile(trust, 'utf8')));
    } catch (error) {
      throw unusable(trust, error);
    }
  }

  // Both: after a rollover the file may be older than what the service has told, after a new beginning it is newer.
  async function provedBy(known: string | null): Promise<readonly string[]> {
    return [await trusted(), ...(known === null ? [] : [known])];
  }

  function inAnswer<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw new Error(`the CA at ${url} gave what cannot be used: ${(error as Error).message}`, { cause: error });
    }
  }

  function rootsOf(answer: Readonly<Record<string, unknown>>): string {
    return inAnswer(() => certificatesPem(readRoots(String(answer.bundle))));
  }

  return {
    trusted,
    async certify(id, proof, known) {
      const key = await makeKey();
      const answer = await askCa({
        url: new URL('v1/svid', base),
        method: 'POST',
        body: { csr: makeRequest(key) },
        roots: await provedBy(known),
        certificate: 'certificate' in proof ? proof.certificate : null,
        token: 'token' in proof ? proof.token : null,
        signal,
      });
      const roots = rootsOf(answer);
      const svid = inAnswer(() => svidOf(String(answer.svid), key, trustDomain, roots, clock.now()));
      if (svid.id !== id) throw new Error(`the CA at ${url} gave a certificate of ${svid.id}, not of ${id}`);
      return { svid, roots };
    },
    async roots(known) {
      const roots = await provedBy(known);
      const location = new URL('v1/bundle', base);
      return rootsOf(await askCa({ url: location, method: 'GET', roots, certificate: null, token: null, signal }));
    },
  };
}

/** `chain`: PEM. @throws Error for what a peer would refuse */
export function svidOf(chain: string, key: KeyObject, trustDomain: string, roots: string, now: number): Svid {
  return checkedSvid(readCertificates(chain), key, trustDomain, roots, now);
}

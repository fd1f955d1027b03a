// Asks an issuer for its keys: one bounded GET of the JWK set, after one for the discovery document where the config names no URL.
import { type KeySet, publishedKeys } from './keys.ts';

const TIMEOUT_MS = 5_000;
/** Bytes of an answer, after decompression. */
const MAX_ANSWER = 512 * 1_024;

export interface KeyLocation {
  readonly issuer: string;
  /** Null: the issuer's discovery document says. */
  readonly jwks: string | null;
  readonly allowHttp: boolean;
}

/** What is wrong with a URL that keys would come from; null: nothing. Whoever can change them on the way can sign any token. */
export function keyUrlProblem(written: string, allowHttp: boolean): string | null {
  const url = URL.canParse(written) ? new URL(written) : null;
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    return `"${written}" is not an https URL`;
  if (url.username !== '' || url.password !== '' || url.hash !== '') return 'has no place for a user or fragment';
  if (url.protocol === 'https:' || allowHttp || isLoopback(url.hostname)) return null;
  return 'is http, where anybody on the way can put in keys: use https, or say allowHttp: true';
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d+){3}$/.test(hostname);
}

/** Rejects with a sentence. Redirects are not followed: the answer is to come from where the config says. */
export async function fetchKeys(location: KeyLocation, closed: AbortSignal, timeoutMs = TIMEOUT_MS): Promise<KeySet> {
  const signal = AbortSignal.any([closed, AbortSignal.timeout(timeoutMs)]);
  try {
    const url = location.jwks ?? (await discover(location, signal));
    return publishedKeys(await get(url, signal));
  } catch (error) {
    if ((error as Error).name !== 'TimeoutError') throw error;
    throw new Error(`no answer within ${timeoutMs} ms`, { cause: error });
  }
}

/** OpenID Connect Discovery 1.0 section 4. */
async function discover({ issuer, allowHttp }: KeyLocation, signal: AbortSignal): Promise<string> {
  const text = await get(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, signal);
  let document: { readonly issuer?: unknown; readonly jwks_uri?: unknown } | null;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Error('the discovery document is not JSON');
  }
  if (document?.issuer !== issuer) throw new Error('the discovery document is about another issuer');
  const { jwks_uri: url } = document;
  if (typeof url !== 'string') throw new Error('the discovery document has no "jwks_uri"');
  const wrong = keyUrlProblem(url, allowHttp);
  if (wrong !== null) throw new Error(`"jwks_uri" of the discovery document: ${wrong}`);
  return url;
}

async function get(url: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(url, { redirect: 'error', signal, headers: { accept: 'application/json' } });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  return boundedText(response);
}

/** The body of an answer; rejects when it is larger than anything that an issuer has to say. */
export async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop cancels the rest.
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER) throw new Error(`the answer is larger than ${MAX_ANSWER} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

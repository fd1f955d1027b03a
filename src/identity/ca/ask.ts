// One request to a CA service, over a connection of its own: proved by the roots, and by the certificate that is to be renewed.
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import type { Svid } from '../source.ts';

export interface CaQuestion {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly body?: object;
  /** PEM texts of the roots that the service may prove itself by. */
  readonly roots: readonly string[];
  /** Shown to the service; null: none. */
  readonly certificate: Svid | null;
  readonly token: string | null;
  readonly signal: AbortSignal;
}

/** Everything, from the lookup of the name to the last byte. */
const TIMEOUT_MS = 10_000;

/** Bytes of an answer: a chain and up to 64 roots. */
const MAX_ANSWER_BYTES = 512 * 1024;

/** `credentials`: they were not good enough, and never will be. `later`: the same may go well soon. `fault`: somebody has to act. */
export type CaFailureKind = 'credentials' | 'later' | 'fault';

export class CaFailure extends Error {
  override readonly name = 'CaFailure';
  readonly kind: CaFailureKind;

  constructor(kind: CaFailureKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }
}

/** What a service that is starting, or a network that is, looks like. */
const PASSING: ReadonlySet<string | undefined> = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN'],
]);

/** @throws CaFailure; no message has the token in it */
export async function askCa(question: CaQuestion): Promise<Readonly<Record<string, unknown>>> {
  const at = `the CA at ${question.url.origin}`;
  let status: number;
  let body: string;
  try {
    const response = await send(question);
    status = response.statusCode ?? 0;
    body = await text(bounded(response));
  } catch (error) {
    const { kind, reason } = failureOf(error as Error);
    throw new CaFailure(kind, `${at} cannot be asked: ${reason}`, error);
  }
  const answer = parsed(body);
  if (status === 200 && answer !== null) return answer;
  if (status === 200) throw new CaFailure('fault', `${at} gave an answer that is no JSON object`);
  const detail = typeof answer?.detail === 'string' ? answer.detail.slice(0, 300) : `it answered ${status}`;
  const denied = status === 401 || status === 403;
  const kind = denied ? 'credentials' : status === 429 || status >= 500 ? 'later' : 'fault';
  throw new CaFailure(kind, `${at} refused: ${detail}`);
}

function send({ url, method, body, roots, certificate, token, signal }: CaQuestion): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const content = body === undefined ? null : JSON.stringify(body);
    const outgoing = request(url, {
      method,
      // Never a connection that another certificate was shown on.
      agent: false,
      ca: [...roots],
      cert: certificate?.cert,
      key: certificate?.key,
      minVersion: 'TLSv1.2',
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      headers: {
        accept: 'application/json',
        ...(content === null
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) }),
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      },
    });
    outgoing.on('response', resolve);
    outgoing.on('error', reject);
    outgoing.end(content ?? undefined);
  });
}

async function* bounded(response: IncomingMessage): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`its answer has more than ${MAX_ANSWER_BYTES} bytes`);
    yield chunk;
  }
}

function parsed(body: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function failureOf(error: Error): { readonly kind: CaFailureKind; readonly reason: string } {
  if (error.name === 'AbortError' && (error.cause as Error | undefined)?.name === 'TimeoutError')
    return { kind: 'later', reason: `no answer within ${TIMEOUT_MS / 1_000} s` };
  // One for each address of the name.
  const [first] = error instanceof AggregateError ? (error.errors as Error[]) : [error];
  const { code } = (first ?? error) as NodeJS.ErrnoException;
  return { kind: PASSING.has(code) ? 'later' : 'fault', reason: (first ?? error).message || (code ?? error.name) };
}

// One HTTP request to an OTLP collector: what it answered, or why it did not, never an exception.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { retryAfterMs } from '../../http/retry-after.ts';

const TIMEOUT_MS = 10_000;
/** Bytes of an answer that are read; more and the connection is cut. */
const MAX_ANSWER = 64 * 1024;
/** OTLP/HTTP, "Retryable Response Codes". */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export interface Answer {
  /** Null: the batch was taken. */
  readonly error: Error | null;
  /** Spans of a taken batch that were not. */
  readonly rejected: number;
  /** Another try may end better, but not before `afterMs`. */
  readonly again: boolean;
  readonly afterMs: number;
}

export interface Post {
  send(body: string): Promise<Answer>;
  /** Ends what is under way, at once. */
  close(): void;
}

/** `https:` verifies the collector against the system's authorities (and NODE_EXTRA_CA_CERTS). Redirects are not followed: they would take the token along. */
export function collector(url: URL, headers: Readonly<Record<string, string>>, timeoutMs = TIMEOUT_MS): Post {
  const secure = url.protocol === 'https:';
  const agent = secure ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  const start = secure ? httpsRequest : httpRequest;
  const all = { ...headers, 'content-type': 'application/json' };
  const underWay = new Set<(error: Error) => void>();

  const send = (body: string): Promise<Answer> =>
    new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const settle = (answer: Answer): void => {
        clearTimeout(timer);
        underWay.delete(stop);
        resolve(answer);
      };
      const fail = (error: Error): void => settle({ error, rejected: 0, again: true, afterMs: 0 });
      const request = start(url, { method: 'POST', agent, headers: all });
      const stop = (error: Error): void => {
        request.destroy(error);
        fail(error);
      };
      timer = setTimeout(() => stop(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      underWay.add(stop);
      request.on('error', fail);
      request.on('response', (response) => {
        response.on('error', fail);
        read(response, (text) => settle(judge(response, text)), stop);
      });
      // With the whole body at hand Node says its length.
      request.end(body);
    });

  return {
    send,
    close() {
      for (const stop of [...underWay]) stop(new Error('closed before it was answered'));
      agent.destroy();
    },
  };
}

function read(response: IncomingMessage, done: (text: string) => void, stop: (error: Error) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER) stop(new Error(`the answer is larger than ${MAX_ANSWER} bytes`));
    else chunks.push(chunk);
  });
  response.on('end', () => done(Buffer.concat(chunks).toString()));
}

function judge({ statusCode = 0, headers }: IncomingMessage, text: string): Answer {
  if (statusCode >= 200 && statusCode < 300)
    return { error: null, rejected: rejectedOf(text), again: false, afterMs: 0 };
  const afterMs = retryAfterMs(headers['retry-after'] ?? '', Date.now()) ?? 0;
  const error = new Error(`the collector answered ${statusCode}`);
  return { error, rejected: 0, again: RETRYABLE.has(statusCode), afterMs };
}

/** `partialSuccess.rejectedSpans`, a 64-bit integer and so a string; what cannot be read says nothing. */
function rejectedOf(text: string): number {
  try {
    const rejected = Number(JSON.parse(text)?.partialSuccess?.rejectedSpans ?? 0);
    return Number.isInteger(rejected) && rejected > 0 ? rejected : 0;
  } catch {
    return 0;
  }
}

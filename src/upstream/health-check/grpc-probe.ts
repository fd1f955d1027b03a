// Asks an endpoint by grpc.health.v1.Health/Check over HTTP/2, with prior knowledge or by ALPN where it has TLS.
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Endpoint } from '../endpoint.ts';
import { grpcStatusName, healthRequest, SERVING, servingStatus, servingStatusName } from './grpc-message.ts';
import { openSocket } from './open-socket.ts';
import { failureDetail, MAX_ANSWER_BYTES, type Probe, type ProbeDone, USER_AGENT } from './probe.ts';

/** The session is kept between checks; after a failure of it the next check opens another. */
export function grpcProbe(endpoint: Endpoint, service: string, timeoutMs: number, headers: readonly string[]): Probe {
  const message = healthRequest(service);
  const head = requestHead(endpoint, timeoutMs, headers);
  const tls = endpoint.tls === null ? null : { ...endpoint.tls, ALPNProtocols: ['h2'] };
  /** While it is being opened. */
  let socket: Socket | null = null;
  let session: ClientHttp2Session | null = null;
  let answer: GrpcAnswer | null = null;

  function drop(): void {
    answer?.forget();
    answer = null;
    socket?.destroy();
    socket = null;
    session?.destroy();
    session = null;
  }

  function begin(done: ProbeDone): void {
    if (session === null || session.closed || session.destroyed) {
      open(done);
      return;
    }
    ask(session, (healthy, detail, unanswered) => {
      // The endpoint may have closed it just then, which says nothing about its health.
      if (unanswered) open(done);
      else done(healthy, detail);
    });
  }

  function open(done: ProbeDone): void {
    drop();
    const opening = openSocket(endpoint, tls, (error) => {
      if (error !== null) {
        drop();
        done(false, failureDetail(error));
      } else if (tls !== null && (opening as TLSSocket).alpnProtocol !== 'h2') {
        drop();
        done(false, 'no HTTP/2');
      } else {
        socket = null;
        session = startSession(endpoint, opening);
        ask(session, done);
      }
    });
    socket = opening;
  }

  function ask(to: ClientHttp2Session, done: AnswerDone): void {
    let stream: ClientHttp2Stream;
    try {
      stream = to.request(head, { endStream: false });
    } catch (error) {
      drop();
      done(false, failureDetail(error as Error), false);
      return;
    }
    answer = new GrpcAnswer(stream, (healthy, detail, unanswered) => {
      answer = null;
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR || !stream.closed) drop();
      done(healthy, detail, unanswered);
    });
    stream.end(message);
  }

  return { begin, abort: drop, close: drop };
}

function requestHead({ address, tls }: Endpoint, timeoutMs: number, headers: readonly string[]) {
  const head: Record<string, string> = {
    ':method': 'POST',
    ':scheme': tls === null ? 'http' : 'https',
    ':path': '/grpc.health.v1.Health/Check',
    ':authority': address,
    te: 'trailers',
    'content-type': 'application/grpc',
    'user-agent': USER_AGENT,
    'grpc-timeout': grpcTimeout(timeoutMs),
  };
  for (let index = 0; index < headers.length; index += 2) head[headers[index].toLowerCase()] = headers[index + 1];
  return head;
}

/** At most eight digits, by the protocol. */
function grpcTimeout(timeoutMs: number): string {
  const ms = Math.ceil(timeoutMs);
  return ms < 1e8 ? `${ms}m` : `${Math.ceil(ms / 1000)}S`;
}

function startSession({ origin }: Endpoint, socket: Socket): ClientHttp2Session {
  const session = connect(origin, {
    createConnection: () => socket,
    settings: { enablePush: false },
    // Megabytes: the smallest bound of what is kept for headers and streams.
    maxSessionMemory: 1,
    maxHeaderListPairs: 64,
  });
  // Streams tell what failed; between two checks nobody has to know before the next one.
  session.on('error', () => {});
  return session;
}

/** `unanswered`: the stream ended before a response head. */
type AnswerDone = (healthy: boolean, detail: string, unanswered: boolean) => void;

class GrpcAnswer {
  readonly #stream: ClientHttp2Stream;
  #done: AnswerDone | null;
  readonly #chunks: Buffer[] = [];
  /** At most MAX_ANSWER_BYTES. */
  #bytes = 0;
  #head: IncomingHttpHeaders | null = null;
  #trailers: IncomingHttpHeaders | null = null;
  #failure: Error | null = null;

  constructor(stream: ClientHttp2Stream, done: AnswerDone) {
    this.#stream = stream;
    this.#done = done;
    stream.on('response', (headers) => {
      this.#head = headers;
    });
    stream.on('trailers', (headers) => {
      this.#trailers = headers;
    });
    stream.on('data', (chunk: Buffer) => this.#received(chunk));
    stream.on('error', (error) => {
      this.#failure = error;
    });
    stream.on('close', () => this.#closed());
  }

  /** Nobody is interested any more. */
  forget(): void {
    this.#done = null;
  }

  #received(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= MAX_ANSWER_BYTES) this.#chunks.push(chunk);
    else this.#decide(false, 'response too large');
  }

  #closed(): void {
    const failed = this.#failure !== null || this.#stream.rstCode !== constants.NGHTTP2_NO_ERROR;
    if (this.#head === null || failed) {
      this.#decide(false, streamFailure(this.#failure, this.#stream.rstCode), this.#head === null);
    } else this.#judge(this.#head);
  }

  #judge(head: IncomingHttpHeaders): void {
    const status = head[':status'];
    const grpcStatus = this.#trailers?.['grpc-status'] ?? head['grpc-status'];
    if (typeof grpcStatus !== 'string') {
      const ok = Number(status) === 200;
      this.#decide(false, ok ? 'not a gRPC response' : `status ${status}`);
    } else if (grpcStatus !== '0') this.#decide(false, `grpc ${grpcStatusName(grpcStatus)}`);
    else {
      const serving = servingStatus(Buffer.concat(this.#chunks));
      const detail = serving === null ? 'malformed gRPC response' : `grpc ${servingStatusName(serving)}`;
      this.#decide(serving === SERVING, detail);
    }
  }

  #decide(healthy: boolean, detail: string, unanswered = false): void {
    const done = this.#done;
    this.#done = null;
    done?.(healthy, detail, unanswered);
  }
}

function streamFailure(error: Error | null, rstCode: number | undefined): string {
  if (rstCode !== undefined && rstCode !== constants.NGHTTP2_NO_ERROR) return `stream reset (HTTP/2 error ${rstCode})`;
  return error === null ? 'connection closed' : failureDetail(error);
}

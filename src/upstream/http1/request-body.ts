// Sends a streamed request body, no faster than the upstream takes it and no byte more or less than was declared.
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { allowedAsTrailer, FIELD_CONTENT, TOKEN } from './grammar.ts';
import { TransportError } from './transport-error.ts';

/** Who is told how the sending went. */
export interface BodyOwner {
  /** Everything was handed to the socket. */
  bodySent(): void;
  /** The body cannot be completed, so neither can the request. */
  bodyFailed(error: Error): void;
}

/** A write of up to this many bytes is one segment, on any path that IPv6 may take (RFC 8200 section 5: 1280 with the headers). */
export const SEGMENT_BYTES = 1200;

/** Head and body up to this many bytes together leave as one buffer. */
const JOINED_BYTES = 16 * 1024;

/**
 * Writes a body that is all there.
 * @param head - empty: it was written before
 */
export function sendBuffer(socket: Socket, head: string, body: Buffer): void {
  if (head.length + body.length > JOINED_BYTES) {
    socket.cork();
    if (head !== '') socket.write(head, 'latin1');
    socket.write(body);
    socket.uncork();
    return;
  }
  const request = Buffer.allocUnsafe(head.length + body.length);
  request.write(head, 0, 'latin1');
  body.copy(request, head.length);
  socket.write(request);
}

/**
 * Watches the stream from the moment the request is dispatched, since a client may leave while the request still waits for a
 * connection. Its closures are per streamed body: that is what the stream's events take.
 */
export class RequestBody {
  readonly #stream: Readable;
  readonly #owner: BodyOwner;
  /** Null: chunked. */
  readonly #declared: number | null;
  /** Null: not started. */
  #socket: Socket | null = null;
  #sent = 0;
  /** The first write waits for what the stream has ready. */
  #gathering: NodeJS.Immediate | null = null;
  #withHead = false;
  /** What came from the stream, while it is no more than a segment has room for; null: it was more, or had trailers. */
  #kept: Buffer[] | null = [];
  #keptBytes = 0;
  #complete = false;
  #stopped = false;
  /** The system refused the first write, head included, so the upstream got nothing. */
  refused = false;
  /** Bytes that the socket had been handed, since it was opened, by the end of the first write; 0: there was none yet. */
  firstWriteEnds = 0;

  /** @param declared - Content-Length; null: chunked */
  constructor(stream: Readable, declared: number | null, owner: BodyOwner) {
    this.#stream = stream;
    this.#declared = declared;
    this.#owner = owner;
    stream.on('error', this.#onError);
    stream.on('close', this.#onClose);
  }

  /** Some of it may have left the stream. */
  get started(): boolean {
    return this.#socket !== null;
  }

  /** All of it, where it is small and went out with the first write. */
  get again(): Buffer | null {
    return this.#kept !== null && this.#complete ? Buffer.concat(this.#kept) : null;
  }

  /** @param head - leaves together with what the stream has ready; empty: it was written before */
  start(socket: Socket, head: string): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.readableEnded) {
      this.#fail(asFailure(stream.errored ?? new Error('it was read or destroyed before it could be sent')));
      return;
    }
    this.#socket = socket;
    socket.cork();
    // A small body that came with its head is there within this turn: one write instead of two, and one segment for the upstream to read.
    this.#gathering = setImmediate(firstWrite, this);
    this.#withHead = head !== '';
    if (head !== '') socket.write(head, 'latin1');
    stream.on('data', this.#onData);
    stream.on('end', this.#onEnd);
    if (this.#declared === 0) this.#completed();
    stream.resume();
  }

  firstWrite(): void {
    if (this.#gathering === null) return;
    clearImmediate(this.#gathering);
    this.#gathering = null;
    const socket = this.#socket as Socket;
    socket.uncork();
    this.refused = this.#withHead && socket.errored !== null;
    this.firstWriteEnds = socket.bytesWritten;
    if (!this.#complete) this.#kept = null;
  }

  /** Leaves the stream to its owner, unread from here. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    const stream = this.#stream;
    stream.off('data', this.#onData);
    stream.off('end', this.#onEnd);
    stream.off('error', this.#onError);
    stream.off('close', this.#onClose);
    if (stream.readableEnded) return;
    if (!this.#complete && this.#socket !== null) stream.pause();
    // An error of a stream that nobody listens to any more would end the process.
    if (stream.listenerCount('error') === 0) stream.on('error', ignore);
  }

  /** The socket takes more. */
  drained(): void {
    if (!this.#stopped) this.#stream.resume();
  }

  #fail(error: Error): void {
    this.stop();
    this.#owner.bodyFailed(error);
  }

  #completed(): void {
    this.#complete = true;
    this.firstWrite();
    this.#owner.bodySent();
  }

  readonly #onData = (data: Buffer | string): void => {
    if (typeof data !== 'string' && !(data instanceof Uint8Array)) {
      this.#fail(new TypeError('a request body consists of bytes'));
      return;
    }
    const chunk = typeof data === 'string' ? Buffer.from(data) : data;
    if (chunk.length === 0) return;
    const first = this.#sent === 0;
    this.#sent += chunk.length;
    if (this.#declared === null) this.#writeChunk(chunk, first);
    else if (this.#sent > this.#declared) this.#fail(wrongLength(this.#declared));
    else {
      this.#write(chunk);
      if (this.#sent === this.#declared) this.#completed();
    }
  };

  #writeChunk(chunk: Uint8Array, first: boolean): void {
    const socket = this.#socket as Socket;
    socket.cork();
    socket.write(`${first ? '' : '\r\n'}${chunk.length.toString(16)}\r\n`, 'latin1');
    this.#write(chunk);
    socket.uncork();
  }

  #write(chunk: Uint8Array): void {
    if (this.#kept !== null) {
      this.#keptBytes += chunk.length;
      if (this.#keptBytes > SEGMENT_BYTES) this.#kept = null;
      else this.#kept.push(chunk as Buffer);
    }
    if (!(this.#socket as Socket).write(chunk)) this.#stream.pause();
  }

  readonly #onEnd = (): void => {
    if (this.#complete) {
      this.stop();
      return;
    }
    if (this.#declared !== null) {
      this.#fail(wrongLength(this.#declared));
      return;
    }
    const trailers = (this.#stream as Partial<IncomingMessage>).rawTrailers;
    const lines = trailers === undefined ? '' : trailerLines(trailers);
    if (lines !== '') this.#kept = null;
    (this.#socket as Socket).write(`${this.#sent === 0 ? '' : '\r\n'}0\r\n${lines}\r\n`, 'latin1');
    this.stop();
    this.#completed();
  };

  readonly #onError = (error: Error): void => {
    if (this.#complete) this.stop();
    else this.#fail(asFailure(error));
  };

  readonly #onClose = (): void => {
    if (this.#complete) this.stop();
    else this.#fail(asFailure(new Error('it was closed before its end')));
  };
}

function ignore(): void {}

function firstWrite(body: RequestBody): void {
  body.firstWrite();
}

function trailerLines(rawTrailers: readonly string[]): string {
  let lines = '';
  for (let i = 0; i < rawTrailers.length; i += 2) {
    const name = rawTrailers[i];
    const value = rawTrailers[i + 1];
    if (allowedAsTrailer(name) && consistsOf(TOKEN, name) && consistsOf(FIELD_CONTENT, value))
      lines += `${name}: ${value}\r\n`;
  }
  return lines;
}

function consistsOf(octets: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (octets[text.charCodeAt(i)] !== 1) return false;
  }
  return true;
}

function wrongLength(declared: number): TransportError {
  return new TransportError(
    'SLV_BAD_REQUEST',
    `the request body does not have the ${declared} bytes that were declared`,
  );
}

/** Errors with a code of ours pass as they are: whoever limits the body has said already what is wrong. */
function asFailure(error: Error): Error {
  if ((error as { code?: unknown }).code?.toString().startsWith('SLV_')) return error;
  return new TransportError('SLV_CLIENT_ABORTED', `the request body was not completed: ${error.message}`, {
    cause: error,
  });
}

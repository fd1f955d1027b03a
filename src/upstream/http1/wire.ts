// The socket under one connection: opened, read into a buffer, paused, and closed without losing what the upstream said last.
import type { Socket } from 'node:net';
import { TRANSPORT_CODES } from '../../dispatch.ts';
import type { Wheel, WheelTimer } from '../../timer-wheel.ts';
import { type DialTarget, dial, dialError } from './dial.ts';
import { TransportError } from './transport-error.ts';

export interface WireSettings extends DialTarget {
  /** Name lookup, TCP and TLS together; 0: no limit. */
  readonly connectTimeoutMs: number;
  readonly wheel: Wheel;
}

export interface WireOwner {
  opened(): void;
  failedToOpen(error: TransportError): void;
  /** @param stable - nobody writes to `octets` again */
  received(octets: Buffer, length: number, stable: boolean): void;
  /** Nothing more will come. `wire.failure` says whether that is more than the upstream's own end. */
  ended(): void;
  drained(): void;
  /** A verified peer gave a TLS session to resume; null: forget the last one. */
  keepSession(session: Buffer | null): void;
}

/** Octets of one read. Plain connections share the buffer: no read begins while the last one is still being parsed. */
const sharedReadBuffer = Buffer.allocUnsafeSlow(64 * 1024);

const NOTHING = Buffer.alloc(0);

/** A TLS connection reads into a buffer of its own, since decryption may hand over more while others are written to. */
const TLS_READ_BYTES = 16 * 1024;

export class Wire {
  readonly socket: Socket;
  open = false;
  /** What broke it; null: nothing yet. A failed write counts once nothing more can be read. */
  failure: Error | null = null;
  /** The upstream takes no more; what it has said already is still read. */
  writeFailed = false;
  /** An answer is due, so a failed write is no reason to stop reading. */
  awaitsAnswer = false;
  readonly #settings: WireSettings;
  readonly #owner: WireOwner;
  /** Read as a stream, because it will be handed on as one. A socket that reads into a given buffer is no stream any more. */
  readonly #asStream: boolean;
  #closed = false;
  /** The upstream ended its side, or it broke. Our side may look writable for a moment longer. */
  #ended = false;
  #flowing = true;
  #handshaking = false;
  #session: Buffer | null = null;
  #connectTimer: WheelTimer | null = null;

  constructor(settings: WireSettings, owner: WireOwner, session: Buffer | null, asStream: boolean) {
    this.#settings = settings;
    this.#owner = owner;
    this.#asStream = asStream;
    const { tls, connectTimeoutMs, wheel } = settings;
    const socket = dial(settings, session, asStream ? null : this.#readInto(tls !== null));
    this.socket = socket;
    if (tls !== null) {
      socket.once('connect', this.#onTcpConnect);
      socket.on('session', this.#onSession);
    }
    socket.once(tls === null ? 'connect' : 'secureConnect', this.#onOpen);
    socket.on('error', this.#onError);
    socket.on('end', this.#onEnded);
    socket.on('close', this.#onEnded);
    socket.on('drain', this.#onDrain);
    // Our side stays open behind the upstream's end, so that `refusesMore` can ask. Every end that is seen closes the socket.
    if (tls === null && !asStream) socket.allowHalfOpen = true;
    if (asStream) socket.on('readable', this.#onReadable);
    else socket.destroy = this.#destroyUnlessReading;
    if (connectTimeoutMs > 0) this.#connectTimer = wheel.after(connectTimeoutMs, this.#onConnectTimeout);
  }

  get usable(): boolean {
    return !this.#closed && !this.#ended && this.socket.writable && !this.socket.destroyed;
  }

  get authority(): string {
    return `${this.#settings.host}:${this.#settings.port}`;
  }

  /** Leaves what comes in the kernel. With TLS, what is decrypted already (at most 64 KiB) still comes. */
  pause(): void {
    this.#flowing = false;
    if (!this.#asStream) this.socket.pause();
  }

  resume(): void {
    this.#flowing = true;
    if (!this.#asStream) this.socket.resume();
    else process.nextTick(this.#onReadable);
  }

  /** Bytes handed to the socket since it was opened. */
  get written(): number {
    return this.socket.bytesWritten;
  }

  /** Whether `refusesMore` can tell: over TLS nothing empty is written. */
  get tells(): boolean {
    return this.#settings.tls === null && !this.#asStream;
  }

  /**
   * Behind the upstream's own end: whether it has since answered what we sent with a reset, as a system does for a connection that no
   * process has any more. Sends nothing: the write is empty, and the kernel refuses it all the same.
   */
  refusesMore(told: (refused: boolean) => void): void {
    // A stream whose last write failed takes no further one, and says nothing of it.
    if (this.failure !== null) told(false);
    else this.socket.write(NOTHING, (error) => told(error !== null && error !== undefined && isRefusedWrite(error)));
  }

  /** Closes it at once; the owner is told nothing more. */
  close(): void {
    this.awaitsAnswer = false;
    this.#forget();
    this.socket.destroy();
  }

  /** Hands the socket on, as it was before anyone listened to it. */
  detach(): Socket {
    const { socket } = this;
    this.#forget();
    socket.off('session', this.#onSession);
    socket.off('error', this.#onError);
    socket.off('end', this.#onEnded);
    socket.off('close', this.#onEnded);
    socket.off('drain', this.#onDrain);
    socket.off('readable', this.#onReadable);
    return socket;
  }

  #forget(): void {
    this.#closed = true;
    this.#connectTimer?.cancel();
  }

  #readInto(tls: boolean) {
    return {
      buffer: tls ? Buffer.allocUnsafeSlow(TLS_READ_BYTES) : sharedReadBuffer,
      callback: (bytes: number, buffer: Uint8Array): boolean => {
        if (!this.#closed) this.#owner.received(buffer as Buffer, bytes, false);
        return true;
      },
    };
  }

  readonly #onTcpConnect = (): void => {
    this.#handshaking = true;
  };

  readonly #onSession = (session: Buffer): void => {
    // TLS 1.2 hands it over before the certificate is judged: a session with a peer that fails must not be resumed.
    if (this.open) this.#owner.keepSession(session);
    else this.#session = session;
  };

  readonly #onOpen = (): void => {
    if (this.#closed) return;
    this.open = true;
    this.#connectTimer?.cancel();
    if (this.#session !== null) this.#owner.keepSession(this.#session);
    this.#owner.opened();
  };

  readonly #onConnectTimeout = (): void => {
    const message = `connecting to ${this.authority} took more than ${this.#settings.connectTimeoutMs} ms`;
    this.#failToOpen(new TransportError(TRANSPORT_CODES.connectTimeout, message, { unsent: true }));
  };

  readonly #onReadable = (): void => {
    while (!this.#closed && this.#flowing) {
      const chunk: Buffer | null = this.socket.read();
      if (chunk === null) return;
      this.#owner.received(chunk, chunk.length, true);
    }
  };

  readonly #onDrain = (): void => this.#owner.drained();

  readonly #onError = (error: Error): void => {
    this.failure ??= error;
    this.#onEnded();
  };

  readonly #onEnded = (): void => {
    if (this.#closed) return;
    this.#ended = true;
    if (this.open) this.#owner.ended();
    else this.#failToOpen(dialError(this.failure, this.authority, this.#handshaking));
  };

  #failToOpen(error: TransportError): void {
    this.close();
    this.#owner.keepSession(null);
    this.#owner.failedToOpen(error);
  }

  /**
   * A failed write says that the upstream reads no more, not that it has said nothing: a 413 may lie in the kernel. A stream
   * would destroy the socket and the answer with it; here reading goes on to its end, which the kernel has ready behind the data.
   */
  readonly #destroyUnlessReading = (error?: Error): Socket => {
    const { socket } = this;
    if (error !== undefined && this.awaitsAnswer && isRefusedWrite(error)) {
      this.writeFailed = true;
      this.failure ??= error;
      // A stream with a failed write never emits 'end': the end of reading is its null.
      socket.push = this.#endAfterFailedWrite;
      this.#owner.drained();
      return socket;
    }
    return Object.getPrototypeOf(socket).destroy.call(socket, error);
  };

  readonly #endAfterFailedWrite = (chunk: unknown): boolean => {
    if (chunk === null) process.nextTick(this.#onEnded);
    return false;
  };
}

function isRefusedWrite({ syscall, code }: NodeJS.ErrnoException): boolean {
  return syscall === 'write' && (code === 'EPIPE' || code === 'ECONNRESET');
}

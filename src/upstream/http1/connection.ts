// One socket to the endpoint and the exchange that it carries just now: writes the request, feeds the parser, ends both lawfully.
import type { Socket } from 'node:net';
import { TRANSPORT_CODES } from '../../dispatch.ts';
import type { Wheel, WheelTimer } from '../../timer-wheel.ts';
import { type DialTarget, dial, dialError, isTlsFailure } from './dial.ts';
import type { Carrier, Exchange } from './exchange.ts';
import type { LinkedList } from './linked-list.ts';
import { type BodyOwner, RequestBody } from './request-body.ts';
import { malformed } from './response-head.ts';
import { ResponseParser, type ResponseSink } from './response-parser.ts';
import { TransportError } from './transport-error.ts';

/** What every connection of a pool is opened with. */
export interface ConnectionSettings extends DialTarget {
  readonly maxHeaderBytes: number;
  readonly maxInformational: number;
  /** 0: no limit. */
  readonly connectTimeoutMs: number;
  readonly wheel: Wheel;
}

/** The pool, as its connections see it. */
export interface ConnectionOwner {
  opened(connection: Connection): void;
  failedToOpen(connection: Connection, error: TransportError): void;
  /** It has served an exchange and may serve again. */
  released(connection: Connection): void;
  /** It is closed, or no longer ours. `resend`: what died on it and may be sent once more. */
  gone(connection: Connection, resend: Exchange | null): void;
  session: Buffer | null;
}

/** Octets of one read. Plain connections share the buffer: a read never begins while the last one is being parsed. */
const sharedReadBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/** A TLS connection has a buffer of its own, since decryption may hand over more while other connections are written to. */
const TLS_READ_BYTES = 16 * 1024;

/** Head and body up to this many bytes together leave as one buffer. */
const JOINED_BYTES = 16 * 1024;

/** Milliseconds to wait for `100 Continue` before the body is sent all the same (RFC 9110 section 10.1.1). */
const CONTINUE_WAIT_MS = 1000;

/** Milliseconds a connection rests after a response that announced a body where none may be: what still comes is no answer. */
const QUARANTINE_MS = 100;

const NOTHING = Buffer.alloc(0);

export class Connection implements Carrier, ResponseSink, BodyOwner {
  readonly socket: Socket;
  readonly parser: ResponseParser;
  /** On whose account it is being opened. */
  origin: Exchange | null;
  /** What it carries. */
  exchange: Exchange | null = null;
  list: LinkedList<Connection> | null = null;
  previous: Connection | null = null;
  next: Connection | null = null;
  /** The sweep of its pool at which it is too old to stay idle. */
  retireAtSweep = 0;
  open = false;
  readonly #owner: ConnectionOwner;
  readonly #settings: ConnectionSettings;
  readonly #leavesHttp: boolean;
  #dead = false;
  #handshaking = false;
  #served = 0;
  #parsing = false;
  /** The body of the request waits for `100 Continue`. */
  #holdsBody = false;
  /** What arrived after the handler paused: the rest of one read, and with TLS what was decrypted beside it (at most 64 KiB). */
  #held: Buffer | null = null;
  /** The socket ended while the handler was paused. */
  #endedMeanwhile = false;
  #error: Error | null = null;
  /** The upstream takes no more; what it has said already is still read. */
  #writeError: Error | null = null;
  #session: Buffer | null = null;
  /** Of connecting, or of quarantine. */
  #timer: WheelTimer | null = null;

  /** @param origin - `leavesHttp` when it needs a connection of its own */
  constructor(owner: ConnectionOwner, settings: ConnectionSettings, origin: Exchange) {
    this.#owner = owner;
    this.#settings = settings;
    this.origin = origin;
    this.#leavesHttp = origin.needsOwnConnection;
    this.parser = new ResponseParser(this, settings.maxHeaderBytes);
    const { tls } = settings;
    // A socket that reads into a given buffer is no stream any more, and an upgrade hands on a stream.
    const onread = this.#leavesHttp
      ? null
      : {
          buffer: tls === null ? sharedReadBuffer : Buffer.allocUnsafeSlow(TLS_READ_BYTES),
          callback: (bytes: number, buffer: Uint8Array) => {
            this.#receive(buffer as Buffer, bytes, false);
            return true;
          },
        };
    const socket = dial(settings, owner.session, onread);
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
    if (this.#leavesHttp) socket.on('readable', this.#onReadable);
    else socket.destroy = this.#destroyUnlessReading;
    const { connectTimeoutMs, wheel } = settings;
    if (connectTimeoutMs > 0) this.#timer = wheel.after(connectTimeoutMs, () => this.#connectTimedOut());
  }

  get #authority(): string {
    const { host, port } = this.#settings;
    return `${host}:${port}`;
  }

  get usable(): boolean {
    return !this.#dead && this.socket.writable && !this.socket.destroyed;
  }

  send(exchange: Exchange): void {
    const { socket } = this;
    this.origin = null;
    this.exchange = exchange;
    exchange.dial = null;
    exchange.connection = this;
    exchange.written = true;
    this.parser.expect(exchange);
    if (exchange.paused) this.pause();
    if (exchange.options.body === null) {
      exchange.requestComplete = true;
      socket.write(exchange.head, 'latin1');
    } else if (exchange.holdsBody) {
      this.#holdsBody = true;
      exchange.continueTimer = this.#settings.wheel.after(CONTINUE_WAIT_MS, () => this.#sendHeldBody(exchange));
      socket.write(exchange.head, 'latin1');
    } else {
      this.#sendBody(exchange, exchange.head);
    }
  }

  pause(): void {
    if (!this.#leavesHttp) this.socket.pause();
  }

  resume(exchange: Exchange): void {
    if (!this.#parsing) process.nextTick(goOn, this, exchange);
    else if (!this.#leavesHttp) this.socket.resume();
  }

  drop(): void {
    if (!this.#dead) this.#die(null);
  }

  /** The handler wants more: first what was held, then what the socket has. */
  goOn(exchange: Exchange): void {
    if (this.exchange !== exchange || exchange.paused) return;
    if (!this.#leavesHttp) this.socket.resume();
    const held = this.#held ?? NOTHING;
    this.#held = null;
    this.#parse(held, held.length, true);
    if (this.exchange !== exchange || exchange.paused) return;
    if (this.#endedMeanwhile) this.#ended();
    else if (this.#leavesHttp) this.#onReadable();
  }

  bodySent(): void {
    if (this.exchange !== null) this.exchange.requestComplete = true;
  }

  bodyFailed(error: Error): void {
    this.exchange?.fail(error);
  }

  onInterim(): boolean {
    const exchange = this.exchange as Exchange;
    exchange.interims += 1;
    if (exchange.interims > this.#settings.maxInformational) throw malformed('interim responses without end');
    const { statusCode, rawHeaders, statusMessage } = this.parser.head;
    const goesOn = exchange.start(statusCode, rawHeaders, statusMessage);
    if (statusCode === 100) this.#sendHeldBody(exchange);
    return goesOn;
  }

  onHead(): boolean {
    const exchange = this.exchange as Exchange;
    // A final answer instead of 100: the body is not wanted.
    this.#holdsBody = false;
    exchange.continueTimer?.cancel();
    const { statusCode, rawHeaders, statusMessage } = this.parser.head;
    return exchange.start(statusCode, rawHeaders, statusMessage);
  }

  onData(chunk: Buffer): boolean {
    return (this.exchange as Exchange).data(chunk);
  }

  onEnd(rawTrailers: string[] | null, surplus: boolean): void {
    const exchange = this.exchange as Exchange;
    const reusable =
      !surplus &&
      this.parser.head.persistent &&
      exchange.requestComplete &&
      !this.#leavesHttp &&
      this.#writeError === null &&
      this.socket.writableLength === 0;
    this.exchange = null;
    exchange.connection = null;
    this.#served += 1;
    if (!reusable) this.#die(null);
    else if (this.parser.announcedAbsentBody) {
      this.#timer = this.#settings.wheel.after(QUARANTINE_MS, () => this.#owner.released(this));
    } else this.#owner.released(this);
    exchange.end(rawTrailers);
  }

  onUpgrade(rest: Buffer): void {
    const { socket } = this;
    const exchange = this.exchange as Exchange;
    const { statusCode, rawHeaders } = this.parser.head;
    this.exchange = null;
    exchange.connection = null;
    this.#dead = true;
    socket.off('session', this.#onSession);
    socket.off('error', this.#onError);
    socket.off('end', this.#onEnded);
    socket.off('close', this.#onEnded);
    socket.off('drain', this.#onDrain);
    socket.off('readable', this.#onReadable);
    this.#owner.gone(this, null);
    exchange.upgraded(statusCode, rawHeaders, socket, rest);
  }

  #sendBody(exchange: Exchange, head: string): void {
    const { socket } = this;
    const { body, contentLength } = exchange.options;
    if (Buffer.isBuffer(body)) {
      exchange.requestComplete = true;
      if (head.length + body.length <= JOINED_BYTES) {
        const request = Buffer.allocUnsafe(head.length + body.length);
        request.write(head, 0, 'latin1');
        body.copy(request, head.length);
        socket.write(request);
      } else {
        socket.cork();
        if (head !== '') socket.write(head, 'latin1');
        socket.write(body);
        socket.uncork();
      }
      return;
    }
    // What the stream has ready comes in this tick: then it leaves together with the head.
    socket.cork();
    process.nextTick(uncork, socket);
    if (head !== '') socket.write(head, 'latin1');
    exchange.body = new RequestBody(body as NonNullable<typeof body>, contentLength, socket, this);
    exchange.body.start();
  }

  #sendHeldBody(exchange: Exchange): void {
    if (!this.#holdsBody || this.exchange !== exchange) return;
    this.#holdsBody = false;
    exchange.continueTimer?.cancel();
    this.#sendBody(exchange, '');
  }

  #receive(octets: Buffer, length: number, stable: boolean): void {
    const { exchange } = this;
    if (exchange === null) {
      // Nobody asked for this: whatever it is, it must not become the answer to the next request.
      this.drop();
      return;
    }
    exchange.answered = true;
    if (exchange.paused || this.#held !== null) this.#hold(octets, 0, length);
    else this.#parse(octets, length, stable);
  }

  #parse(octets: Buffer, length: number, stable: boolean): void {
    const exchange = this.exchange as Exchange;
    this.#parsing = true;
    try {
      const used = this.parser.execute(octets, 0, length, stable);
      if (used < length && this.exchange === exchange) this.#hold(octets, used, length);
    } catch (error) {
      // Either the response is malformed, or the handler threw: both end this exchange only.
      exchange.fail(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#parsing = false;
    }
  }

  #hold(octets: Buffer, from: number, to: number): void {
    const rest = octets.subarray(from, to);
    this.#held = this.#held === null ? Buffer.from(rest) : Buffer.concat([this.#held, rest]);
  }

  readonly #onTcpConnect = (): void => {
    this.#handshaking = true;
  };

  readonly #onSession = (session: Buffer): void => {
    // TLS 1.2 hands it over before the certificate is judged: a session of a peer that fails must not be resumed.
    if (this.open) this.#owner.session = session;
    else this.#session = session;
  };

  readonly #onOpen = (): void => {
    if (this.#dead) return;
    this.open = true;
    this.#timer?.cancel();
    if (this.#session !== null) this.#owner.session = this.#session;
    this.#owner.opened(this);
  };

  readonly #onReadable = (): void => {
    while (!this.#dead && this.exchange?.paused !== true) {
      const chunk: Buffer | null = this.socket.read();
      if (chunk === null) return;
      this.#receive(chunk, chunk.length, true);
    }
  };

  readonly #onDrain = (): void => {
    this.exchange?.body?.drained();
  };

  readonly #onError = (error: Error): void => {
    this.#error ??= error;
    this.#ended();
  };

  readonly #onEnded = (): void => this.#ended();

  /**
   * A failed write says that the upstream reads no more, not that it has said nothing: a 413 may lie in the kernel. A stream
   * would destroy the socket and the answer with it; here reading goes on to its end, which the kernel has ready behind the data.
   */
  readonly #destroyUnlessReading = (error?: Error): Socket => {
    const { socket } = this;
    if ((error as NodeJS.ErrnoException | undefined)?.syscall === 'write' && this.exchange !== null && this.open) {
      this.#writeError ??= error as Error;
      this.exchange.body?.stop();
      return socket;
    }
    return Object.getPrototypeOf(socket).destroy.call(socket, error);
  };

  #connectTimedOut(): void {
    const { connectTimeoutMs } = this.#settings;
    const message = `connecting to ${this.#authority} took more than ${connectTimeoutMs} ms`;
    this.#failToOpen(new TransportError(TRANSPORT_CODES.connectTimeout, message, { unsent: true }));
  }

  #failToOpen(error: TransportError): void {
    this.#dead = true;
    this.#timer?.cancel();
    this.socket.destroy();
    this.#owner.failedToOpen(this, error);
  }

  #ended(): void {
    if (this.#dead) return;
    if (!this.open) {
      this.#failToOpen(dialError(this.#error, this.#authority, this.#handshaking));
      return;
    }
    const { exchange } = this;
    if (exchange === null) this.drop();
    else if (exchange.paused) this.#endedMeanwhile = true;
    else if (this.#error !== null || this.#writeError !== null || !this.parser.finish()) this.#broke(exchange);
  }

  #broke(exchange: Exchange): void {
    const cause = this.#error ?? this.#writeError ?? undefined;
    const unanswered = this.#served > 0 && !exchange.answered;
    if (unanswered && exchange.mayBeResent) {
      exchange.rewind();
      this.#die(exchange);
      return;
    }
    let code: (typeof TRANSPORT_CODES)[keyof typeof TRANSPORT_CODES] = TRANSPORT_CODES.reset;
    if (isTlsFailure(this.#error)) code = TRANSPORT_CODES.tls;
    else if (this.parser.headComplete) code = TRANSPORT_CODES.incomplete;
    const what = cause === undefined ? 'it closed the connection' : cause.message;
    exchange.fail(new TransportError(code, `${this.#authority} broke off: ${what}`, { reused: unanswered, cause }));
  }

  #die(resend: Exchange | null): void {
    this.#dead = true;
    this.#timer?.cancel();
    this.exchange = null;
    this.#held = null;
    this.socket.destroy();
    this.#owner.gone(this, resend);
  }
}

function goOn(connection: Connection, exchange: Exchange): void {
  connection.goOn(exchange);
}

function uncork(socket: Socket): void {
  socket.uncork();
}

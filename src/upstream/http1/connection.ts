// One connection to the endpoint and the exchange that it carries just now: writes the request, feeds the parser, ends both lawfully.
import { TRANSPORT_CODES } from '../../dispatch.ts';
import type { LinkedList } from '../../linked-list.ts';
import type { WheelTimer } from '../../timer-wheel.ts';
import { isTlsFailure } from './dial.ts';
import type { Carrier, Exchange } from './exchange.ts';
import { SEGMENT_BYTES, sendBuffer } from './request-body.ts';
import { holdsBody } from './request-head.ts';
import { malformed } from './response-head.ts';
import { ResponseParser, type ResponseSink } from './response-parser.ts';
import { TransportError } from './transport-error.ts';
import { Wire, type WireOwner, type WireSettings } from './wire.ts';

/** What every connection of a pool is opened with. */
export interface ConnectionSettings extends WireSettings {
  readonly maxHeaderBytes: number;
  readonly maxInformational: number;
}

/** The pool, as its connections see it. */
export interface ConnectionOwner {
  opened(connection: Connection): void;
  failedToOpen(connection: Connection, error: TransportError): void;
  /** It has served an exchange and may serve again. */
  released(connection: Connection): void;
  /** It is closed, or no longer ours. `resend`: what died on it and may be sent once more. */
  gone(connection: Connection, resend: Exchange | null): void;
  /** Between two exchanges the upstream ended it, and perhaps what was just sent on it went unread. `gone` or the error follows. */
  closedByUpstream(connection: Connection): void;
  /** To begin the next connection with. */
  readonly session: Buffer | null;
  /** Null: forget it. */
  keepSession(connection: Connection, session: Buffer | null): void;
}

/** Milliseconds to wait for `100 Continue` before the body is sent all the same (RFC 9110 section 10.1.1). */
const CONTINUE_WAIT_MS = 1000;

/** Milliseconds a connection rests after a response that announced a body where none may be: what still comes is no answer. */
const QUARANTINE_MS = 100;

/** Milliseconds in which the reset arrives that answers what was sent to a closed connection: a round trip. */
const RESET_WAIT_MS = 25;

const NOTHING = Buffer.alloc(0);

export class Connection implements Carrier, WireOwner, ResponseSink {
  readonly parser: ResponseParser;
  /** On whose account it is being opened. */
  origin: Exchange | null;
  /** What it carries. */
  exchange: Exchange | null = null;
  list: LinkedList<Connection> | null = null;
  previous: Connection | null = null;
  next: Connection | null = null;
  /** When it last became free to carry a request; -1: it has been free at no time. */
  idleSince = -1;
  /** Milliseconds that it may stay idle, as far as it alone is concerned. Owned by the pool. */
  keptMs = 0;
  readonly version: number;
  readonly #wire: Wire;
  readonly #owner: ConnectionOwner;
  readonly #settings: ConnectionSettings;
  /** It may leave HTTP and then serves nothing else. */
  readonly #single: boolean;
  #dead = false;
  /** It has carried an exchange to its end. */
  #served = false;
  #parsing = false;
  /** The system refused the first write of the request, so the upstream got nothing of it. */
  #refused = false;
  /** Bytes written before the request, and by the end of the first write of it. */
  #wroteBefore = 0;
  #firstWriteEnds = 0;
  /** Runs while it is unknown whether the upstream had closed the connection before the request got there. */
  #resetTimer: WheelTimer | null = null;
  /** The body of the request waits for `100 Continue`. */
  #holdsBody = false;
  #continueTimer: WheelTimer | null = null;
  #quarantineTimer: WheelTimer | null = null;
  /** What arrived after the handler paused: the rest of one read, and with TLS what was decrypted beside it (at most 64 KiB). */
  #held: Buffer | null = null;
  /** The wire ended while the handler was paused. */
  #endedMeanwhile = false;

  /** @param version of the identity that it is opened with */
  constructor(owner: ConnectionOwner, settings: ConnectionSettings, origin: Exchange, version: number) {
    this.version = version;
    this.#owner = owner;
    this.#settings = settings;
    this.origin = origin;
    this.#single = origin.needsOwnConnection;
    this.parser = new ResponseParser(this, settings.maxHeaderBytes);
    this.#wire = new Wire(settings, this, owner.session, this.#single);
  }

  get usable(): boolean {
    return !this.#dead && this.#wire.usable;
  }

  get isOpen(): boolean {
    return this.#wire.open;
  }

  send(exchange: Exchange): void {
    this.origin = null;
    this.exchange = exchange;
    exchange.dial = null;
    exchange.connection = this;
    this.parser.expect(exchange);
    this.#wire.awaitsAnswer = true;
    if (exchange.paused) this.#wire.pause();
    const { socket } = this.#wire;
    this.#wroteBefore = socket.bytesWritten;
    if (exchange.options.body === null) {
      exchange.requestComplete = true;
      socket.write(exchange.head, 'latin1');
    } else if (holdsBody(exchange.options)) {
      this.#holdsBody = true;
      this.#continueTimer = this.#settings.wheel.after(CONTINUE_WAIT_MS, () => this.#sendHeldBody(exchange));
      socket.write(exchange.head, 'latin1');
    } else {
      this.#sendBody(exchange, exchange.head);
    }
    this.#refused = socket.errored !== null;
    this.#firstWriteEnds = socket.bytesWritten;
  }

  pause(): void {
    this.#wire.pause();
  }

  resume(exchange: Exchange): void {
    if (this.#parsing) this.#wire.resume();
    else process.nextTick(goOn, this, exchange);
  }

  drop(): void {
    if (!this.#dead) this.#die(null);
  }

  /** The handler wants more: first what was held, then what the socket has. */
  goOn(exchange: Exchange): void {
    if (this.exchange !== exchange || exchange.paused) return;
    this.#wire.resume();
    const held = this.#held ?? NOTHING;
    this.#held = null;
    this.#parse(held, held.length, true);
    if (this.#endedMeanwhile && this.exchange === exchange && !exchange.paused) this.ended();
  }

  opened(): void {
    this.#owner.opened(this);
  }

  failedToOpen(error: TransportError): void {
    this.#dead = true;
    this.#owner.failedToOpen(this, error);
  }

  keepSession(session: Buffer | null): void {
    this.#owner.keepSession(this, session);
  }

  received(octets: Buffer, length: number, stable: boolean): void {
    const { exchange } = this;
    if (exchange === null) {
      // Nobody asked for this: whatever it is (a 408 ahead of the closing), it must not become the answer to the next request.
      this.#endIdle();
      return;
    }
    exchange.answered = true;
    if (exchange.paused || this.#held !== null) this.#hold(octets, 0, length);
    else this.#parse(octets, length, stable);
  }

  ended(): void {
    const { exchange } = this;
    if (exchange === null) this.#endIdle();
    else if (exchange.paused) this.#endedMeanwhile = true;
    else if (this.#wire.failure !== null || !this.parser.finish()) this.#broke(exchange);
  }

  drained(): void {
    const body = this.exchange?.body;
    if (!this.#wire.writeFailed) body?.drained();
    else if (body?.started) body.stop();
  }

  onInterim(): boolean {
    const exchange = this.exchange as Exchange;
    exchange.interims += 1;
    if (exchange.interims > this.#settings.maxInformational) throw malformed('interim responses without end');
    const { statusCode, rawHeaders, statusMessage } = this.parser.head;
    const goesOn = exchange.start(statusCode, rawHeaders, statusMessage);
    if (statusCode === 100) this.#sendHeldBody(exchange);
    return goesOn && !exchange.finished;
  }

  onHead(): boolean {
    // A final answer instead of 100: the body is not wanted.
    this.#stopHolding();
    const { statusCode, rawHeaders, statusMessage } = this.parser.head;
    return (this.exchange as Exchange).start(statusCode, rawHeaders, statusMessage);
  }

  onData(chunk: Buffer): boolean {
    return (this.exchange as Exchange).data(chunk);
  }

  onEnd(rawTrailers: string[] | null, surplus: boolean): void {
    const exchange = this.exchange as Exchange;
    const reusable =
      !surplus && !this.#single && this.parser.head.persistent && exchange.requestComplete && this.#wire.usable;
    this.exchange = null;
    exchange.connection = null;
    this.#wire.awaitsAnswer = false;
    this.#served = true;
    this.idleSince = this.#settings.wheel.now();
    if (!reusable) this.#die(null);
    else if (this.parser.announcedAbsentBody) this.#rest();
    else if (this.#wasReceived(exchange)) this.#owner.released(this);
    // The report of a write that is done comes with the next turn.
    else setImmediate(() => (this.#wire.socket.writableLength === 0 ? this.#release() : this.#rest()));
    exchange.end(rawTrailers);
  }

  #rest(): void {
    if (this.#dead) return;
    this.#quarantineTimer = this.#settings.wheel.after(QUARANTINE_MS, () => {
      if (this.#wire.socket.writableLength === 0) this.#release();
      else this.#die(null);
    });
  }

  #release(): void {
    if (!this.#dead) this.#owner.released(this);
  }

  /**
   * Who answers a request without a body has received all of it, whatever the socket still counts as unwritten: with TLS an answer is
   * often read before the write is reported done. A body may be on its way still, or stuck for ever.
   */
  #wasReceived({ options }: Exchange): boolean {
    return options.body === null || this.#wire.socket.writableLength === 0;
  }

  onUpgrade(rest: Buffer): void {
    const exchange = this.exchange as Exchange;
    const { statusCode, rawHeaders } = this.parser.head;
    this.exchange = null;
    exchange.connection = null;
    this.#dead = true;
    this.#stopHolding();
    const socket = this.#wire.detach();
    this.#owner.gone(this, null);
    exchange.upgraded(statusCode, rawHeaders, socket, rest);
  }

  #sendHeldBody(exchange: Exchange): void {
    if (!this.#holdsBody || this.exchange !== exchange) return;
    this.#stopHolding();
    this.#sendBody(exchange, '');
  }

  #sendBody(exchange: Exchange, head: string): void {
    const { socket } = this.#wire;
    const { body } = exchange.options;
    if (exchange.body !== null) exchange.body.start(socket, head);
    else {
      exchange.requestComplete = true;
      sendBuffer(socket, head, body as Buffer);
    }
  }

  #stopHolding(): void {
    this.#holdsBody = false;
    this.#continueTimer?.cancel();
    this.#continueTimer = null;
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

  #endIdle(): void {
    if (this.#dead) return;
    // What never served, or rests after a doubtful answer, says nothing about how long connections may be idle.
    if (this.list !== null && this.#served) this.#owner.closedByUpstream(this);
    this.#doubtSession();
    this.#die(null);
  }

  #broke(exchange: Exchange): void {
    const { failure } = this.#wire;
    // It may have been closed as idle before the request got there. A fresh one has no such excuse.
    const stale = this.idleSince !== -1 && !exchange.answered;
    const unsent = this.#refused || exchange.body?.refused === true;
    if (stale && this.#served) this.#owner.closedByUpstream(this);
    this.#doubtSession();
    if (stale && exchange.intact && (unsent || exchange.idempotent)) {
      // Once only, since it goes on a fresh connection.
      exchange.connection = null;
      this.#die(exchange);
      return;
    }
    if (stale && !unsent && failure === null && this.#wroteOneSegment(exchange)) {
      this.#awaitReset(exchange);
      return;
    }
    this.#fail(exchange, unsent);
  }

  /**
   * The upstream has ended its side without a word, and all that it was sent is one segment: either it was read, or it met a
   * connection that was closed already. In the second case the reset that answers it comes a round trip later, and nobody has read a byte.
   * (A process that closes with the segment unread resets at once, without an end before it: that looks like a reset on purpose.)
   */
  #awaitReset(exchange: Exchange): void {
    if (this.#resetTimer !== null) return;
    this.#resetTimer = this.#settings.wheel.after(RESET_WAIT_MS, () => {
      this.#wire.refusesMore((refused) => {
        if (this.exchange !== exchange) return;
        const unread = refused && this.#wroteOneSegment(exchange);
        if (!unread || !exchange.intact) this.#fail(exchange, unread);
        else {
          exchange.connection = null;
          this.#die(exchange);
        }
      });
    });
  }

  #wroteOneSegment({ body }: Exchange): boolean {
    if (!this.#wire.tells) return false;
    const firstWriteEnds = body?.started ? body.firstWriteEnds : this.#firstWriteEnds;
    const { written } = this.#wire;
    return written === firstWriteEnds && written - this.#wroteBefore <= SEGMENT_BYTES;
  }

  #fail(exchange: Exchange, unsent: boolean): void {
    const { failure, authority } = this.#wire;
    const stale = this.idleSince !== -1 && !exchange.answered;
    const message = `${authority} broke off: ${failure === null ? 'it closed the connection' : failure.message}`;
    const body = unsent ? (exchange.body?.again ?? undefined) : undefined;
    const progress = { reused: stale, unsent, body, cause: failure ?? undefined };
    if (isTlsFailure(failure)) exchange.fail(new TransportError(TRANSPORT_CODES.tls, message, progress));
    else if (this.parser.headComplete) exchange.fail(new TransportError(TRANSPORT_CODES.incomplete, message, progress));
    else exchange.fail(new TransportError(TRANSPORT_CODES.reset, message, progress));
  }

  /** With TLS 1.3 a server that does not accept who resumes a session says so after the handshake: then the next one begins anew. */
  #doubtSession(): void {
    if (!this.#served) this.#owner.keepSession(this, null);
  }

  #die(resend: Exchange | null): void {
    this.#dead = true;
    this.exchange = null;
    this.#held = null;
    this.#stopHolding();
    this.#quarantineTimer?.cancel();
    this.#resetTimer?.cancel();
    this.#wire.close();
    this.#owner.gone(this, resend);
  }
}

function goOn(connection: Connection, exchange: Exchange): void {
  connection.goOn(exchange);
}

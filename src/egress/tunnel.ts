// A CONNECT that leaves the mesh: dialled, answered, its first words held against the name that was allowed, then joined raw both ways.
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Code, SelvedgeError } from '../errors.ts';
import { formatHostPort } from '../http/address.ts';
import type { Wheel, WheelTimer } from '../timer-wheel.ts';
import { dialError } from '../upstream/http1/dial.ts';
import { type IdleWatch, watchIdle } from '../upstream/tcp/idle-watch.ts';
import { canonicalAddress } from './address-class.ts';
import { MAX_HELLO_BYTES, readHello } from './client-hello.ts';

export interface TunnelRequest {
  readonly client: Duplex;
  /** What the client sent right behind its request. */
  readonly head: Buffer | null;
  /** As it was judged: lower-case, without trailing dot or brackets. */
  readonly host: string;
  readonly port: number;
  /** Judged too; tried in turn, and nothing is looked up again. */
  readonly addresses: readonly string[];
  /** Inside must be TLS that names `host`. */
  readonly tls: boolean;
  /** What is inside is told about, and let through whatever it is. */
  readonly audit: boolean;
  /** Milliseconds without a byte either way; 0: no limit. */
  readonly idleMs: number;
  readonly wheel: Wheel;
}

/** Exactly one of `opened` and `failed` is called; `closed` after `opened`, once. */
export interface TunnelOwner {
  /** The other side is there: the client is to be answered now, before this returns. */
  opened(address: string): void;
  /** The client has got no answer. */
  failed(error: SelvedgeError): void;
  /** Judged: null where the client says what it may. With an error both sides are being closed, unless it is an audit. */
  judged(error: SelvedgeError | null): void;
  /** Both sides are closed. `error`: who closed was the tunnel itself. */
  closed(octets: { readonly fromClient: number; readonly toClient: number }, error: SelvedgeError | null): void;
}

/** Milliseconds for one address. */
const CONNECT_MS = 5_000;
/** Milliseconds from the answer to a whole ClientHello. */
const HELLO_MS = 10_000;
/** Milliseconds that a client which is refused gets to read why. */
const LINGER_MS = 1_000;
/** What TLS says to a client that names the wrong server: fatal, unrecognized_name (RFC 6066 section 3). */
const ALERT = Buffer.from([21, 3, 3, 0, 2, 2, 112]);

export function openEgressTunnel(request: TunnelRequest, owner: TunnelOwner): void {
  const { client, addresses, wheel } = request;
  client.on('error', ignore);
  let socket: Socket | null = null;
  let settled = false;
  const gone = (): void => {
    socket?.destroy();
    fail(new SelvedgeError('SLV_CLIENT_ABORTED', 'the client went away'));
  };
  const fail = (error: SelvedgeError): void => {
    if (settled) return;
    settled = true;
    client.off('close', gone);
    owner.failed(error);
  };
  const dialFrom = (index: number): void => {
    const address = addresses[index];
    const target = formatHostPort(address, request.port);
    const dialled = connect({ host: address, port: request.port, allowHalfOpen: true, noDelay: true, keepAlive: true });
    socket = dialled;
    let error: Error | null = null;
    let late = false;
    const timer = wheel.after(CONNECT_MS, () => {
      late = true;
      dialled.destroy();
    });
    dialled.on('error', (cause) => {
      error ??= cause;
    });
    const closed = (): void => {
      timer.cancel();
      if (settled) return;
      if (index + 1 < addresses.length) dialFrom(index + 1);
      else fail(late ? tooLate(target) : asSelvedge(dialError(error, target, false)));
    };
    dialled.once('close', closed);
    dialled.once('connect', () => {
      timer.cancel();
      dialled.off('close', closed);
      if (settled) return;
      settled = true;
      client.off('close', gone);
      new Tunnel(request, owner, dialled).open(target);
    });
  };
  if (client.destroyed) {
    gone();
    return;
  }
  client.once('close', gone);
  dialFrom(0);
}

class Tunnel {
  readonly #request: TunnelRequest;
  readonly #owner: TunnelOwner;
  readonly #client: Duplex;
  readonly #server: Socket;
  /** Of the client, until they are judged: at most MAX_HELLO_BYTES and one read more. */
  #heard: Buffer = NOTHING;
  #timer: WheelTimer | null = null;
  #open = 2;
  #idle: IdleWatch | null = null;
  #error: SelvedgeError | null = null;
  /** Of the client's octets, those that came before it was a tunnel. */
  readonly #before: { readonly read: number; readonly written: number };

  constructor(request: TunnelRequest, owner: TunnelOwner, server: Socket) {
    this.#request = request;
    this.#owner = owner;
    this.#client = request.client;
    this.#server = server;
    this.#before = countsOf(request.client);
  }

  open(target: string): void {
    this.#owner.opened(target);
    for (const [side, other] of [
      [this.#client, this.#server],
      [this.#server, this.#client],
    ]) {
      side.once('close', () => this.#closed(other));
      side.once('error', () => other.destroy());
    }
    if (this.#client.destroyed) {
      this.#server.destroy();
      return;
    }
    const { head, tls, wheel } = this.#request;
    if (head !== null) this.#heard = head;
    if (!tls) {
      this.#owner.judged(null);
      this.#join();
      return;
    }
    this.#timer = wheel.after(HELLO_MS, () => this.#refuse(`no ClientHello came within ${HELLO_MS} ms`));
    this.#client.on('data', this.#onData).once('end', this.#onEnd);
    this.#judge();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#heard = Buffer.concat([this.#heard, chunk]);
    this.#judge();
  };

  readonly #onEnd = (): void => {
    this.#stopListening();
    this.#server.destroy();
    this.#client.destroy();
  };

  #judge(): void {
    const heard = this.#heard;
    const hello = readHello(heard);
    if (hello.kind === 'more') {
      if (heard.length >= MAX_HELLO_BYTES) this.#refuse(`its ClientHello is longer than ${MAX_HELLO_BYTES} bytes`);
      return;
    }
    const { host } = this.#request;
    if (hello.kind === 'not_tls') this.#refuse('it carries no TLS, and the rule has no "tls: false"');
    else if (hello.kind === 'malformed') this.#refuse('its ClientHello is malformed');
    // Names of servers are no addresses (RFC 6066 section 3), so for an address none is due.
    else if (hello.serverName === null && canonicalAddress(host) !== null) this.#accept();
    else if (hello.serverName === null) this.#refuse('its ClientHello names no server');
    else if (hello.serverName === host) this.#accept();
    else this.#refuse(`its ClientHello names ${JSON.stringify(hello.serverName)}`);
  }

  #accept(): void {
    this.#owner.judged(null);
    this.#goOn();
  }

  #refuse(why: string): void {
    const { host, port, audit, wheel } = this.#request;
    const error = new SelvedgeError('SLV_EGRESS_SNI_MISMATCH', `the tunnel to ${formatHostPort(host, port)}: ${why}`);
    this.#owner.judged(error);
    if (audit) {
      this.#goOn();
      return;
    }
    this.#error = error;
    this.#stopListening();
    this.#server.destroy();
    // What still comes is read and thrown away: closing over unread data would reset the connection ahead of the alert.
    this.#client.resume();
    this.#client.end(ALERT);
    const timer = wheel.after(LINGER_MS, () => this.#client.destroy());
    this.#client.once('close', () => timer.cancel());
  }

  #goOn(): void {
    this.#stopListening();
    this.#join();
  }

  #stopListening(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#client.off('data', this.#onData).off('end', this.#onEnd);
    this.#client.pause();
  }

  #join(): void {
    const heard = this.#heard;
    this.#heard = NOTHING;
    if (heard.length > 0) this.#server.write(heard);
    this.#client.pipe(this.#server);
    this.#server.pipe(this.#client);
    const { idleMs, wheel } = this.#request;
    this.#idle = watchIdle(
      wheel,
      idleMs,
      () => this.#server.bytesRead + this.#server.bytesWritten,
      () => {
        this.#error = new SelvedgeError('SLV_IDLE_TIMEOUT', `nothing was sent either way for ${idleMs} ms`);
        this.#client.destroy();
        this.#server.destroy();
      },
    );
  }

  #closed(other: Duplex): void {
    this.#open -= 1;
    if (this.#open > 0) {
      // A refused client reads its alert first; what was written to the other side is flushed.
      if (this.#error === null || other === this.#server) endSoon(other);
      return;
    }
    this.#timer?.cancel();
    this.#idle?.stop();
    const { read, written } = countsOf(this.#client);
    this.#owner.closed({ fromClient: read - this.#before.read, toClient: written - this.#before.written }, this.#error);
  }
}

function countsOf(socket: Duplex): { readonly read: number; readonly written: number } {
  const { bytesRead = 0, bytesWritten = 0 } = socket as Duplex & { bytesRead?: number; bytesWritten?: number };
  return { read: bytesRead, written: bytesWritten };
}

function endSoon(socket: Duplex): void {
  const { destroySoon } = socket as Duplex & { destroySoon?: () => void };
  if (destroySoon === undefined) socket.destroy();
  else destroySoon.call(socket);
}

function tooLate(target: string): SelvedgeError {
  return new SelvedgeError('SLV_CONNECT_TIMEOUT', `connecting to ${target} took more than ${CONNECT_MS} ms`);
}

function asSelvedge({ code, message, cause }: Error & { readonly code: string }): SelvedgeError {
  return new SelvedgeError(code as Code, message, { cause });
}

function ignore(): void {
  // A socket that fails also closes; the close is what counts.
}

const NOTHING: Buffer = Buffer.alloc(0);

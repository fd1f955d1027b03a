// One connection to one endpoint of a TCP service: TCP, then TLS where there is some, then the word of the hop that its application is there.
import { connect as connectWire, isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { SelvedgeError } from '../../errors.ts';
import type { TimerWheel } from '../../timer-wheel.ts';
import type { Caller } from '../caller.ts';
import { PLAIN_MS, speaksNoTls } from '../either-transport.ts';
import type { Endpoint } from '../endpoint.ts';
import { dialError, KEEP_ALIVE_PROBE_MS } from '../http1/dial.ts';
import { TransportError } from '../http1/transport-error.ts';
import { awaitGreeting, GREETINGS, greets, TCP_PROTOCOL } from './greeting.ts';

/** One side of a connection that is passed on. */
export interface TcpLine {
  /** What to read and write. */
  readonly socket: Socket;
  /** The TCP connection below it: the same without TLS. */
  readonly wire: Socket;
}

/** Exactly one of the two is called, unless it is given up before. */
export interface DialOwner {
  opened(line: TcpLine): void;
  /** A TransportError, or SLV_FORBIDDEN: the hop lets this caller not in. */
  failed(error: SelvedgeError): void;
}

/** Until when a hop that did not speak TLS (`mtls: permissive`) is taken for plain; gone with the endpoint. */
const plainUntil = new WeakMap<Endpoint, number>();

/** Returns what gives it up. */
export function dialTcp(endpoint: Endpoint, caller: Caller | null, wheel: TimerWheel, owner: DialOwner): () => void {
  const { dial: target, mesh, connections } = endpoint;
  let wire: Socket | null = null;
  let settled = false;
  const { connectTimeoutMs } = connections;
  const timer =
    connectTimeoutMs > 0
      ? wheel.after(connectTimeoutMs, () => {
          const message = `connecting to ${target} took more than ${connectTimeoutMs} ms`;
          fail(new TransportError('SLV_CONNECT_TIMEOUT', message, { unsent: true }));
        })
      : null;

  function settle(): boolean {
    if (settled) return false;
    settled = true;
    timer?.cancel();
    return true;
  }

  function fail(error: SelvedgeError): void {
    if (!settle()) return;
    wire?.destroy();
    owner.failed(error);
  }

  function open(line: TcpLine): void {
    if (settle()) owner.opened(line);
  }

  function begin(tls: ConnectionOptions | null, orPlain: boolean): void {
    const { host, port } = endpoint;
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS };
    const opened = connectWire({
      host,
      port,
      autoSelectFamily: true,
      allowHalfOpen: true,
      noDelay: true,
      ...keepAlive,
    });
    wire = opened;
    let handshaking = false;
    let failure: Error | null = null;
    const failed = (cause: Error | null): void => {
      // What gave way to a plain connection is nobody's concern any more.
      if (settled || wire !== opened) return;
      failure ??= cause;
      if (orPlain && handshaking && speaksNoTls(failure)) {
        opened.destroy();
        plainUntil.set(endpoint, wheel.now() + PLAIN_MS);
        begin(null, false);
      } else fail(dialError(failure, target, handshaking));
    };
    opened.on('error', failed).once('close', () => failed(null));
    opened.once('connect', () => {
      if (tls === null) {
        open({ socket: opened, wire: opened });
        return;
      }
      handshaking = true;
      const socket = connectTls({ ...tls, socket: opened });
      socket.on('error', failed).once('close', () => failed(null));
      socket.once('secureConnect', () => {
        const expected = greets(socket);
        if (expected) {
          // From here on a connection that closes is an application that is not there, not a handshake that failed.
          handshaking = false;
          socket.once('end', () => failed(null));
        }
        // Called from inside of OpenSSL: what may reset the connection waits for the next turn, or Node crashes.
        setImmediate(() => {
          if (!expected) open({ socket, wire: opened });
          else if (!settled) awaitGreeting(socket, (greeting) => greeted({ socket, wire: opened }, greeting));
        });
      });
    });
  }

  function greeted(line: TcpLine, greeting: number): void {
    if (greeting === GREETINGS.connected) open(line);
    else if (greeting === GREETINGS.denied)
      fail(new SelvedgeError('SLV_FORBIDDEN', `the hop at ${target} does not let this caller in`));
    else fail(new TransportError('SLV_UPSTREAM_INVALID', `the hop at ${target} says ${greeting}, whatever that is`));
  }

  try {
    if (mesh === null || caller === null) begin(ownTls(endpoint), false);
    else if (mesh.mode === 'permissive' && wheel.now() < (plainUntil.get(endpoint) ?? 0)) begin(null, false);
    else
      begin({ ...caller.connectionOptions(mesh.expects), ALPNProtocols: [TCP_PROTOCOL] }, mesh.mode === 'permissive');
  } catch (error) {
    // There is no certificate: later, as all failures are told.
    queueMicrotask(() => fail(dialError(error as Error, target, true)));
  }
  return () => {
    if (settle()) wire?.destroy();
  };
}

/** To endpoints outside the mesh. What they speak inside is theirs to say, so no protocol is named. */
function ownTls({ tls, host }: Endpoint): ConnectionOptions | null {
  if (tls === null) return null;
  const { ALPNProtocols: _http, ...options } = tls;
  return { servername: isIP(host) === 0 ? host : undefined, ...options };
}

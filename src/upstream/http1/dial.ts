// Opens one connection to the endpoint, and names what can go wrong on the way there.
import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { TRANSPORT_CODES } from '../../dispatch.ts';
import { type TransportCode, TransportError } from './transport-error.ts';

/** Milliseconds without traffic before the kernel probes a connection whose peer may have vanished. */
export const KEEP_ALIVE_PROBE_MS = 60_000;

export interface DialTarget {
  readonly host: string;
  readonly port: number;
  readonly tls: ConnectionOptions | null;
}

/** What `net.connect` and `tls.connect` take to read into a given buffer instead of a fresh one per read. */
export interface ReadInto {
  readonly buffer: Buffer;
  /** @param bytes - how much of `buffer` is new */
  callback(bytes: number, buffer: Uint8Array): boolean;
}

/** @param session - TLS session to resume */
export function dial({ host, port, tls }: DialTarget, session: Buffer | null, onread: ReadInto | null): Socket {
  const tcp: TcpNetConnectOpts = {
    host,
    port,
    autoSelectFamily: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
  };
  if (onread !== null) tcp.onread = onread;
  if (tls === null) return connectTcp(tcp);
  return connectTls({
    servername: isIP(host) === 0 ? host : undefined,
    ALPNProtocols: ['http/1.1'],
    ...(session === null ? {} : { session }),
    ...tls,
    ...tcp,
  } as ConnectionOptions);
}

const CODES_BY_ERRNO: ReadonlyMap<string, TransportCode> = new Map<string, TransportCode>([
  ['ECONNREFUSED', TRANSPORT_CODES.connectRefused],
  ['ENOTFOUND', TRANSPORT_CODES.dns],
  ['EAI_AGAIN', TRANSPORT_CODES.dns],
  ['EAI_NODATA', TRANSPORT_CODES.dns],
  ['EHOSTUNREACH', TRANSPORT_CODES.unreachable],
  ['ENETUNREACH', TRANSPORT_CODES.unreachable],
  ['EADDRNOTAVAIL', TRANSPORT_CODES.unreachable],
  ['EHOSTDOWN', TRANSPORT_CODES.unreachable],
  ['ENETDOWN', TRANSPORT_CODES.unreachable],
  ['ETIMEDOUT', TRANSPORT_CODES.connectTimeout],
  ['ECONNRESET', TRANSPORT_CODES.reset],
  ['EPIPE', TRANSPORT_CODES.reset],
]);

/**
 * @param error - what the socket reported before it could carry a request; null: it closed without a word
 * @param handshaking - TCP stands, TLS does not yet
 */
export function dialError(error: Error | null, target: string, handshaking: boolean): TransportError {
  const code = codeOf(error, handshaking);
  const what = error === null ? 'the connection was closed' : error.message || (error as NodeJS.ErrnoException).code;
  return new TransportError(code, `connecting to ${target} failed: ${what}`, {
    unsent: true,
    cause: error ?? undefined,
  });
}

function codeOf(error: Error | null, handshaking: boolean): TransportCode {
  // Several addresses were tried: one that refuses proves a live host, so it says more than one without a route.
  const causes =
    error instanceof AggregateError
      ? (error.errors as NodeJS.ErrnoException[])
      : [error as NodeJS.ErrnoException | null];
  let code: TransportCode | undefined;
  for (const cause of causes) {
    const known = CODES_BY_ERRNO.get(cause?.code ?? '');
    if (known === TRANSPORT_CODES.connectRefused) return known;
    code ??= known;
  }
  if (handshaking && (code === undefined || code === TRANSPORT_CODES.reset)) return TRANSPORT_CODES.tls;
  return code ?? TRANSPORT_CODES.reset;
}

/** TLS may fail after its handshake too: a TLS 1.3 server refuses a client certificate only then. */
export function isTlsFailure(error: Error | null): boolean {
  return (error as NodeJS.ErrnoException | null)?.code?.startsWith('ERR_SSL_') === true;
}

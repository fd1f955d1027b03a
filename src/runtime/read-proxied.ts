// The first bytes of a connection that a load balancer passes on: its PROXY header, before TLS and before any request.
import type { Socket } from 'node:net';
import { type ProxiedConnection, readProxyHeader } from '../gateway/proxy-protocol.ts';

/** What the header says; a string: why there is none that can be believed. */
export type Proxied = ProxiedConnection | null | string;

/** Calls once; never for a socket that closes before, or ends without a byte. What the client sent behind the header is put back. */
export function readProxied(socket: Socket, told: (proxied: Proxied) => void): void {
  let bytes: Buffer = Buffer.alloc(0);
  const tell = (proxied: Proxied): void => {
    socket.off('readable', look).off('end', ended).off('error', ignore);
    told(proxied);
  };
  const look = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const header = readProxyHeader(bytes);
    if (header.kind === 'partial') return;
    if (header.kind === 'malformed') {
      tell(header.reason);
      return;
    }
    if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
    tell(header.connection);
  };
  const ended = (): void => {
    if (bytes.length > 0) tell('it ended inside its PROXY header');
    else socket.destroy();
  };
  socket.on('error', ignore).on('readable', look).once('end', ended);
}

function ignore(): void {
  // It closes as well, and that is what the listener looks for.
}

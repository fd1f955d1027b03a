// What one hop says to another before the bytes of a TCP service: one octet, so that the caller's side knows whether the application is there.
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/**
 * Agreed on in the handshake (ALPN, RFC 7301), so that neither side takes HTTP for this or the other way round. Who does not know it,
 * a client of another make with a certificate of the mesh, gets no greeting and is served all the same.
 */
export const TCP_PROTOCOL = 'selvedge-tcp';

/** Closing without a greeting says that there is no application to be had. */
export const GREETINGS = { connected: 0, denied: 1 } as const;

/** Whether both sides know of greetings. */
export function greets(socket: Socket): boolean {
  return (socket as Partial<TLSSocket>).alpnProtocol === TCP_PROTOCOL;
}

export function greet(socket: Socket, greeting: keyof typeof GREETINGS): void {
  if (greets(socket)) socket.write(Buffer.of(GREETINGS[greeting]));
}

/** Calls once, when the octet is there; never for a socket that closes before. What follows it stays to be read. */
export function awaitGreeting(socket: Socket, told: (greeting: number) => void): void {
  const look = (): void => {
    const first = socket.read(1) as Buffer | null;
    if (first !== null) told(first[0]);
    else if (!socket.readableEnded && !socket.destroyed) socket.once('readable', look);
  };
  socket.once('readable', look);
}

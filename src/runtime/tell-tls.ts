// The first octet of a connection says whether it begins a TLS handshake or a plain request.
import type { Socket } from 'node:net';

/** ContentType handshake (RFC 8446 section 5.1); no method of HTTP begins so. */
const HANDSHAKE = 0x16;

/** Calls once, when the first octet is there; never for a socket that closes before. What was read is put back. */
export function tellTls(socket: Socket, told: (isTls: boolean) => void): void {
  const look = (): void => {
    const first = socket.read() as Buffer | null;
    if (first === null) {
      if (!socket.readableEnded && !socket.destroyed) socket.once('readable', look);
      return;
    }
    socket.unshift(first);
    socket.off('error', ignore);
    told(first[0] === HANDSHAKE);
  };
  socket.on('error', ignore);
  socket.once('readable', look);
}

function ignore(): void {
  // It closes as well, and that is what the listener looks for.
}

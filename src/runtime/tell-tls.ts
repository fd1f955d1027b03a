// The first octet of a connection says whether it begins a TLS handshake or something plain.
import type { Socket } from 'node:net';

/** ContentType handshake (RFC 8446 section 5.1); no method of HTTP begins so. */
const HANDSHAKE = 0x16;

/**
 * Calls once, when the first octet is there; never for a socket that closes before. What was read is put back.
 *
 * @param silentMs who says nothing for so long is not of TLS, where the client speaks first; not given: it is waited for
 */
export function tellTls(socket: Socket, told: (isTls: boolean) => void, silentMs?: number): void {
  let timer: NodeJS.Timeout | undefined;
  const tell = (isTls: boolean): void => {
    clearTimeout(timer);
    socket.off('error', ignore).off('readable', look).off('close', stop);
    told(isTls);
  };
  const look = (): void => {
    const first = socket.read() as Buffer | null;
    if (first === null) {
      if (!socket.readableEnded && !socket.destroyed) socket.once('readable', look);
      return;
    }
    socket.unshift(first);
    tell(first[0] === HANDSHAKE);
  };
  const stop = (): void => clearTimeout(timer);
  socket.on('error', ignore);
  socket.once('readable', look);
  if (silentMs === undefined) return;
  timer = setTimeout(() => tell(false), silentMs);
  socket.once('close', stop);
}

function ignore(): void {
  // It closes as well, and that is what the listener looks for.
}

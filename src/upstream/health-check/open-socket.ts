// Opens a connection to an endpoint for a check that speaks for itself, as tcp and grpc do.
import type { Socket } from 'node:net';
import type { Endpoint } from '../endpoint.ts';
import { dial, dialError } from '../http1/dial.ts';

/**
 * `opened` is called once, with null when TCP and TLS stand, and never when the socket is destroyed before.
 * Whatever becomes of the socket later: it keeps a listener for errors.
 */
export function openSocket(endpoint: Endpoint, tls: Endpoint['tls'], opened: (error: Error | null) => void): Socket {
  const { host, port, dial: target } = endpoint;
  const socket = dial({ host, port, tls }, null, null);
  let settled = false;
  let handshaking = false;

  function settle(error: Error | null): void {
    if (settled) return;
    settled = true;
    opened(error);
  }

  if (tls !== null) {
    socket.once('connect', () => {
      handshaking = true;
    });
  }
  socket.once(tls === null ? 'connect' : 'secureConnect', () => settle(null));
  // Closing amid the handshake is an error of the socket too.
  socket.on('error', (error) => settle(dialError(error, target, handshaking)));
  return socket;
}

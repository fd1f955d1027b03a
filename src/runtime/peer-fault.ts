// Why a TLS handshake with a peer of the mesh failed, and the log of such refusals, which strangers must not be able to flood.
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';

/** What OpenSSL found wrong with the peer or its certificate; null: it just went away, as health checks of load balancers do. */
export function peerFault(
  error: NodeJS.ErrnoException & { readonly reason?: string },
  socket: TLSSocket,
): string | null {
  // A chain that leads to no known root, or an expired certificate: Node destroys the socket and says no more than this.
  const { authorizationError } = socket as { readonly authorizationError?: unknown };
  if (authorizationError) return `its certificate does not verify: ${String(authorizationError)}`;
  if (error.code === 'ERR_SSL_HTTP_REQUEST') return 'it speaks plain HTTP, and mtls is strict';
  return error.code?.startsWith('ERR_SSL_') ? (error.reason ?? error.message) : null;
}

/** Milliseconds between two lines. */
const LINE_EVERY_MS = 1_000;

export class RefusedPeers {
  readonly #log: Logger;
  #nextAt = 0;
  #untold = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param now milliseconds, monotonic */
  tell(remoteAddress: string, reason: string, now: number): void {
    if (now < this.#nextAt) {
      this.#untold += 1;
      return;
    }
    this.#nextAt = now + LINE_EVERY_MS;
    this.#log.warn({ remoteAddress, reason, untold: this.#untold }, 'a peer was refused');
    this.#untold = 0;
  }
}

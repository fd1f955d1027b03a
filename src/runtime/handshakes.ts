// TLS handshakes under way on one listener: each has a deadline that a reload may change, which Node's own has not.
import type { Socket } from 'node:net';

interface Handshake {
  readonly socket: Socket;
  /** Forgets it, whether it succeeded or the socket closed. */
  over(): void;
}

/** By the two addresses of the TCP connection; bounded by `limits.connections`. */
export class Handshakes {
  readonly #underWay = new Map<string, Handshake>();

  get size(): number {
    return this.#underWay.size;
  }

  /** `limitMs` 0: no deadline. Past it `late` is called and the socket destroyed. */
  begin(socket: Socket, limitMs: number, late: () => void): void {
    const addresses = addressesOf(socket);
    const expire = (): void => {
      late();
      socket.destroy();
    };
    const timer = limitMs > 0 ? setTimeout(expire, limitMs).unref() : undefined;
    const over = (): void => {
      clearTimeout(timer);
      socket.off('close', over);
      this.#underWay.delete(addresses);
    };
    socket.once('close', over);
    this.#underWay.set(addresses, { socket, over });
  }

  /** `socket` is the TLS socket that came of it. Returns the one below it; null: it closed meanwhile. */
  succeeded(socket: Socket): Socket | null {
    const handshake = this.#underWay.get(addressesOf(socket)) ?? null;
    handshake?.over();
    return handshake?.socket ?? null;
  }

  destroyAll(): void {
    for (const { socket } of this.#underWay.values()) socket.destroy();
  }
}

/** One TCP connection of this machine at a time has these; nothing else that is public leads from a TLS socket to the one below it. */
function addressesOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

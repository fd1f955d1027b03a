// Two connections joined into one: bytes, half-closes and resets go over from each side to the other, as fast as the slower one takes them.
import type { Wheel } from '../../timer-wheel.ts';
import type { TcpLine } from './dial-tcp.ts';
import { type IdleWatch, watchIdle } from './idle-watch.ts';

/** Who ended it other than by closing both ways: a side that was reset or vanished, or nobody's bytes for too long. Null: neither. */
export type SpliceEnd = 'client' | 'server' | 'idle' | null;

export interface SpliceOptions {
  /** Milliseconds without a byte either way; 0: no limit. */
  readonly idleMs: number;
  readonly wheel: Wheel;
}

export class Splice {
  /** Bytes read from each side. */
  fromClient = 0;
  fromServer = 0;
  readonly #client: TcpLine;
  readonly #server: TcpLine;
  readonly #options: SpliceOptions;
  readonly #over: (end: SpliceEnd) => void;
  #open = 2;
  #cut = false;
  #end: SpliceEnd = null;
  #idle: IdleWatch | null = null;

  /** @param over called once, when both sides are closed */
  constructor(client: TcpLine, server: TcpLine, options: SpliceOptions, over: (end: SpliceEnd) => void) {
    this.#client = client;
    this.#server = server;
    this.#options = options;
    this.#over = over;
  }

  join(): void {
    const client = this.#client.socket;
    const server = this.#server.socket;
    this.#watch(this.#client, this.#server, 'client');
    this.#watch(this.#server, this.#client, 'server');
    client.on('data', (chunk: Buffer) => {
      this.fromClient += chunk.length;
    });
    server.on('data', (chunk: Buffer) => {
      this.fromServer += chunk.length;
    });
    // The end of one side's bytes ends the other's writing, and no more: both are half-open.
    client.pipe(server);
    server.pipe(client);
    const { wheel, idleMs } = this.#options;
    this.#idle = watchIdle(
      wheel,
      idleMs,
      () => this.fromClient + this.fromServer,
      () => this.cut('idle'),
    );
  }

  /** Both sides learn that it did not end well. */
  cut(end: SpliceEnd = null): void {
    this.#cut = true;
    this.#end ??= end;
    reset(this.#client);
    reset(this.#server);
  }

  #watch(line: TcpLine, other: TcpLine, side: 'client' | 'server'): void {
    const { socket } = line;
    let failed = false;
    socket.on('error', () => {
      failed = true;
    });
    socket.once('close', () => {
      // A clean close is over both ways; what was written to the other side still goes out.
      const broken = failed || !socket.readableEnded || !socket.writableFinished;
      if (broken && !this.#cut) this.#end ??= side;
      if (broken && this.#open === 2) {
        // A server may answer and leave without having read everything: its answer is still delivered.
        if (side === 'server' && socket.readableEnded) finish(other);
        else reset(other);
      }
      this.#closed();
    });
  }

  #closed(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    this.#idle?.stop();
    this.#over(this.#end);
  }
}

/** A reset, not an end: whoever reads until the end must not take a part for the whole. */
export function reset({ socket, wire }: TcpLine): void {
  if (socket.destroyed) return;
  wire.resetAndDestroy();
  socket.destroy();
}

/** Closes it when all is written; what still comes is read and thrown away, since closing over unread data would be a reset. */
function finish({ socket }: TcpLine): void {
  socket.resume();
  socket.destroySoon();
}

// A client that sends exactly the bytes it is told to, and keeps everything that comes back, as latin1 text.
import { connect, type Socket } from 'node:net';
import type { Test } from 'tap';

export class RawClient {
  readonly socket: Socket;
  received = '';
  /** How the connection ended: `end` (FIN), `reset`, or null while it is open. */
  ended: 'end' | 'reset' | null = null;
  #waiting: (() => void)[] = [];

  constructor(socket: Socket, first = '') {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1');
      this.#wake();
    });
    socket.on('end', () => {
      // Otherwise its `close` follows.
      if (socket.allowHalfOpen) this.ended ??= 'end';
      this.#wake();
    });
    socket.on('error', () => {
      this.ended = 'reset';
    });
    socket.on('close', () => {
      this.ended ??= 'end';
      this.#wake();
    });
    if (first !== '') this.send(first);
  }

  /** Connected; it keeps its own side open when the other closes, and goes with the test. */
  static async open(t: Test, port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    t.teardown(() => socket.destroy());
    return new RawClient(socket);
  }

  send(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /**
   * Everything received so far, once a text is among it or a condition holds. When the connection ends before, a text is missed
   * (rejects), and a condition left to whoever asked.
   */
  async until(wanted: string | ((received: string) => boolean)): Promise<string> {
    const holds = typeof wanted === 'string' ? (received: string) => received.includes(wanted) : wanted;
    while (!holds(this.received) && this.ended === null) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (typeof wanted === 'string' && !holds(this.received)) {
      throw new Error(`closed without ${JSON.stringify(wanted)}: ${JSON.stringify(this.received)}`);
    }
    return this.received;
  }

  /** Everything until the connection ends. */
  closed(): Promise<string> {
    return this.until(() => false);
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

export function dial(port: number, text = '', host = '127.0.0.1'): RawClient {
  return new RawClient(connect(port, host), text);
}

/** Everything that comes back until the other side closes. */
export function exchange(port: number, text: string): Promise<string> {
  return dial(port, text).closed();
}

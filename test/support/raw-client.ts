// A client that sends exactly the bytes it is told to, and keeps everything that comes back, as latin1 text.
import { connect, type Socket } from 'node:net';

export class RawClient {
  readonly socket: Socket;
  text = '';
  /** Resolves with all that came, once the socket is closed. */
  readonly closed: Promise<string>;
  #changed: () => void = () => undefined;

  constructor(socket: Socket, first = '') {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
      this.#changed();
    });
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        resolve(this.text);
        this.#changed();
      });
    });
    if (first !== '') this.send(first);
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** Everything received so far, once `text` is among it. Rejects when the socket closes without it. */
  async until(text: string): Promise<string> {
    while (!this.text.includes(text)) {
      if (this.socket.closed) throw new Error(`closed without ${JSON.stringify(text)}: ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return this.text;
  }
}

export function dial(port: number, text = '', host = '127.0.0.1'): RawClient {
  return new RawClient(connect(port, host), text);
}

/** Everything that comes back until the other side closes. */
export function exchange(port: number, text: string): Promise<string> {
  return dial(port, text).closed;
}

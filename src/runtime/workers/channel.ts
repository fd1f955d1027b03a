// Questions and answers between the supervisor and one worker, over the channel that Node opens between a process and its child.
//
// What is told is JSON, which is quick, and told for every request; what is asked and answered may be anything that structured clone takes.
import { deserialize, serialize } from 'node:v8';

/** What is used of a child process in the supervisor, and of `process` in a worker. */
export interface Wire {
  send(message: unknown, handle: unknown, done: (error: Error | null) => void): unknown;
  on(event: 'message', listener: (message: unknown, handle: unknown) => void): unknown;
  off(event: 'message', listener: (message: unknown, handle: unknown) => void): unknown;
}

/** Answers what the other end asks; may reject. An answer with a socket is a `WithHandle`. */
export type Handlers = Readonly<Record<string, (argument: never, handle: never) => unknown>>;

/** A listening socket travels beside a message, never in it. */
export class WithHandle {
  readonly handle: unknown;

  constructor(handle: unknown) {
    this.handle = handle;
  }
}

type Message =
  | { readonly ask: number; readonly about: string; readonly argument: string }
  | { readonly tell: string; readonly argument: unknown }
  | { readonly answer: number; readonly value: string }
  | { readonly failed: number; readonly message: string; readonly code: string | undefined };

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout | null;
}

/** Nobody is at the other end any more, or it takes too long. */
export class ChannelError extends Error {
  override readonly name = 'ChannelError';
}

export class Channel {
  readonly #wire: Wire;
  readonly #handlers: Handlers;
  /** Bounded by those who ask: each has one question, or a bound of its own. */
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #closed = false;

  constructor(wire: Wire, handlers: Handlers) {
    this.#wire = wire;
    this.#handlers = handlers;
    wire.on('message', this.#received);
  }

  /** Rejects with what the other end threw, or with a ChannelError. `timeoutMs` not given: for as long as the other end lives. */
  ask<T>(about: string, argument?: unknown, timeoutMs?: number): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) {
        reject(new ChannelError('the other process has ended'));
        return;
      }
      const ask = ++this.#asked;
      const late = (): void => {
        this.#waiting.delete(ask);
        reject(new ChannelError(`no answer to "${about}" within ${timeoutMs} ms`));
      };
      const timer = timeoutMs === undefined ? null : setTimeout(late, timeoutMs);
      this.#waiting.set(ask, { resolve: resolve as Waiting['resolve'], reject, timer });
      this.#send({ ask, about, argument: packed(argument) });
    });
  }

  /** JSON. `sent` is called once the message is on its way: a socket that went with it can be let go. */
  tell(about: string, argument?: unknown, handle?: unknown, sent?: () => void): void {
    if (!this.#closed) this.#send({ tell: about, argument }, handle, sent);
  }

  /** The other end is gone: nothing comes any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wire.off('message', this.#received);
    for (const { reject, timer } of this.#waiting.values()) {
      if (timer !== null) clearTimeout(timer);
      reject(new ChannelError('the other process has ended'));
    }
    this.#waiting.clear();
  }

  readonly #received = (received: unknown, handle: unknown): void => {
    const message = received as Message;
    if ('answer' in message) {
      this.#settle(message.answer)?.resolve(handle === undefined ? unpacked(message.value) : handle);
    } else if ('failed' in message) {
      const { failed, code } = message;
      this.#settle(failed)?.reject(Object.assign(new Error(message.message), code === undefined ? {} : { code }));
    } else if ('tell' in message) {
      void this.#handlers[message.tell]?.(message.argument as never, handle as never);
    } else {
      void this.#answer(message.ask, message.about, unpacked(message.argument));
    }
  };

  async #answer(ask: number, about: string, argument: unknown): Promise<void> {
    try {
      const value = await this.#handlers[about](argument as never, undefined as never);
      if (value instanceof WithHandle) this.#send({ answer: ask, value: packed(null) }, value.handle);
      else this.#send({ answer: ask, value: packed(value) });
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      this.#send({ failed: ask, message, code });
    }
  }

  #settle(ask: number): Waiting | null {
    const waiting = this.#waiting.get(ask) ?? null;
    this.#waiting.delete(ask);
    if (waiting !== null && waiting.timer !== null) clearTimeout(waiting.timer);
    return waiting;
  }

  /** A message that cannot be sent meets an end that is about to be noticed: `close` settles what waits. */
  #send(message: Message, handle?: unknown, sent: () => void = () => {}): void {
    if (this.#closed) return;
    try {
      this.#wire.send(message, handle, sent);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_IPC_CHANNEL_CLOSED') throw error;
    }
  }
}

function packed(value: unknown): string {
  return serialize(value).toString('base64');
}

function unpacked(text: string): unknown {
  return deserialize(Buffer.from(text, 'base64'));
}

// Stands between a new listener and the data plane from the moment that it is bound until its config is in force.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Code } from '../errors.ts';
import type { Connection, ListenerSpec, RequestSink, TcpArrival } from './listener-spec.ts';

/** Holds what arrives until `open`: milliseconds, while the other listeners of the same config are bound. */
export class Gate implements RequestSink {
  readonly #sink: RequestSink;
  /** Bounded by the connections that one listener takes in these milliseconds. */
  #waiting: (() => void)[] | null = [];

  constructor(sink: RequestSink) {
    this.#sink = sink;
  }

  open(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const enter of waiting) enter();
  }

  request(connection: Connection, req: IncomingMessage, res: ServerResponse): void {
    if (this.#waiting === null) this.#sink.request(connection, req, res);
    else this.#waiting.push(() => this.#sink.request(connection, req, res));
  }

  upgrade(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.#waiting === null) this.#sink.upgrade(connection, req, socket, head);
    else this.#waiting.push(() => this.#sink.upgrade(connection, req, socket, head));
  }

  connect(connection: Connection, req: IncomingMessage, socket: Duplex, head: Buffer, open: () => void): void {
    if (this.#waiting === null) this.#sink.connect(connection, req, socket, head, open);
    else this.#waiting.push(() => this.#sink.connect(connection, req, socket, head, open));
  }

  accept(arrival: TcpArrival): void {
    if (this.#waiting === null) this.#sink.accept(arrival);
    else this.#waiting.push(() => this.#sink.accept(arrival));
  }

  rejected(listener: ListenerSpec, code: Code, remoteAddress: string): void {
    this.#sink.rejected(listener, code, remoteAddress);
  }
}

// Node's request, counting its payload as the parser delivers it: what body limits, slow-body checks and the access log read.
// And without trailers that only the gateway may set: they arrive when the headers have been judged.
import { IncomingMessage } from 'node:http';

export class MeteredRequest extends IncomingMessage {
  /** Payload bytes delivered by the parser. */
  receivedBytes = 0;
  /** Called when `receivedBytes` grows past `byteLimit`; at most once, because the limit is lifted first. */
  onOverflow: (() => void) | null = null;
  byteLimit = Number.POSITIVE_INFINITY;
  #withheld: ((name: string) => boolean) | null = null;

  /** From now on trailers with such a name (lower-case) are not there, whether they have arrived yet or not. */
  withholdTrailers(named: (name: string) => boolean): void {
    this.#withheld = named;
    if (this.complete) this.#dropTrailers(named);
  }

  override push(chunk: Buffer | null, encoding?: BufferEncoding): boolean {
    if (chunk === null) {
      // Node's parser has set them by now.
      if (this.#withheld !== null) this.#dropTrailers(this.#withheld);
    } else {
      this.receivedBytes += chunk.length;
      if (this.receivedBytes > this.byteLimit) {
        this.byteLimit = Number.POSITIVE_INFINITY;
        this.onOverflow?.();
      }
    }
    return super.push(chunk, encoding);
  }

  #dropTrailers(named: (name: string) => boolean): void {
    const lines = this.rawTrailers;
    // A name is dropped with the value behind it.
    if (lines.length > 0) this.rawTrailers = lines.filter((_, i) => !named(lines[i - (i % 2)].toLowerCase()));
  }
}

// Collects a response head or trailer section until its empty line; one that arrives whole is never copied.
import { TRANSPORT_CODES } from '../../dispatch.ts';
import { CR, LF } from './grammar.ts';
import { malformed } from './response-head.ts';
import { TransportError } from './transport-error.ts';

const EMPTY_LINE = Buffer.from('\r\n\r\n', 'latin1');
const VERSION = Buffer.from('HTTP/1.', 'latin1');
const FIRST_BYTES = 1024;

export class SectionBuffer {
  /** The section with its empty line, once `take` has found its end. */
  text = '';
  /** What arrived so far of a section in pieces: grows by doubling, never past `#maxBytes`. */
  #kept: Buffer | null = null;
  #length = 0;
  #lineIsEmpty = true;
  #sawCr = false;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  clear(): void {
    this.text = '';
    this.#kept = null;
    this.#length = 0;
    this.#lineIsEmpty = true;
    this.#sawCr = false;
  }

  /**
   * @param head - a status line comes first, so that something else than HTTP is recognised before its end
   * @returns how many octets of `octets[at, end)` end the section; 0: it goes on after them
   */
  take(octets: Buffer, at: number, end: number, head: boolean): number {
    if (this.#length === 0) {
      if (!head && end - at >= 2 && octets[at] === CR && octets[at + 1] === LF) {
        this.text = '\r\n';
        return 2;
      }
      const emptyLine = octets.indexOf(EMPTY_LINE, at);
      if (emptyLine !== -1 && emptyLine + 4 <= end) {
        const length = emptyLine + 4 - at;
        if (length > this.#maxBytes) throw this.#tooLarge();
        this.text = octets.toString('latin1', at, at + length);
        return length;
      }
    }
    return this.#takePiece(octets, at, end, head);
  }

  #takePiece(octets: Buffer, at: number, end: number, head: boolean): number {
    const from = this.#length;
    const length = this.#endOfSection(octets, at, end);
    const taken = length === 0 ? end - at : length;
    if (from + taken > this.#maxBytes) throw this.#tooLarge();
    this.#keep(octets, at, taken);
    if (head && from < VERSION.length) {
      const known = Math.min(this.#length, VERSION.length);
      if ((this.#kept as Buffer).compare(VERSION, 0, known, 0, known) !== 0)
        throw malformed('not an HTTP/1.x status line');
    }
    if (length !== 0) this.text = (this.#kept as Buffer).toString('latin1', 0, this.#length);
    return length;
  }

  /** A bare CR or LF is refused as soon as it comes: its sender may be waiting for us to answer it. */
  #endOfSection(octets: Buffer, from: number, end: number): number {
    for (let at = from; at < end; at++) {
      const octet = octets[at];
      if (this.#sawCr) {
        if (octet !== LF) throw malformed('CR without LF');
        this.#sawCr = false;
        if (this.#lineIsEmpty) return at + 1 - from;
        this.#lineIsEmpty = true;
      } else if (octet === CR) this.#sawCr = true;
      else if (octet === LF) throw malformed('LF without CR');
      else this.#lineIsEmpty = false;
    }
    return 0;
  }

  #keep(octets: Buffer, at: number, length: number): void {
    const needed = this.#length + length;
    if (this.#kept === null || this.#kept.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, FIRST_BYTES, this.#length * 2));
      this.#kept?.copy(grown, 0, 0, this.#length);
      this.#kept = grown;
    }
    octets.copy(this.#kept, this.#length, at, at + length);
    this.#length = needed;
  }

  #tooLarge(): TransportError {
    return new TransportError(
      TRANSPORT_CODES.headersTooLarge,
      `the upstream sent a head or trailer section of more than ${this.#maxBytes} bytes`,
    );
  }
}

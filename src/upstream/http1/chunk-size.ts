// Reads the line before each chunk: its size, and past extensions that nobody here understands (RFC 9112 section 7.1).
import { CR, FIELD_CONTENT, HEX_VALUE, LF, SEMICOLON } from './grammar.ts';
import { malformed } from './response-head.ts';

/** Hexadecimal digits of one chunk size, leading zeros included; 13 stay below 2^53. */
const MAX_DIGITS = 13;

/** Bytes of chunk extensions in one response: they cost work and carry nothing. */
const MAX_EXTENSION_BYTES = 16 * 1024;

type Position = number;
const FIRST_DIGIT: Position = 0;
const DIGITS: Position = 1;
const EXTENSION: Position = 2;
const LINE_FEED: Position = 3;
const DONE: Position = 4;

export class ChunkSizeReader {
  #position = FIRST_DIGIT;
  #size = 0;
  #digits = 0;
  #extensionBytes = 0;

  /** A new response begins. */
  begin(): void {
    this.#extensionBytes = 0;
    this.next();
  }

  get complete(): boolean {
    return this.#position === DONE;
  }

  /** Hands out the size and makes ready for the next line. */
  next(): number {
    const size = this.#size;
    this.#position = FIRST_DIGIT;
    this.#size = 0;
    this.#digits = 0;
    return size;
  }

  /** @returns the place after the last octet that it used */
  read(octets: Buffer, at: number, end: number): number {
    while (at < end) {
      const octet = octets[at++];
      switch (this.#position) {
        case FIRST_DIGIT:
        case DIGITS: {
          const value = HEX_VALUE[octet];
          if (value !== 255) {
            this.#digits += 1;
            if (this.#digits > MAX_DIGITS) throw malformed('chunk size');
            this.#size = this.#size * 16 + value;
            this.#position = DIGITS;
          } else if (this.#position === FIRST_DIGIT) throw malformed('chunk size');
          else if (octet === CR) this.#position = LINE_FEED;
          else if (octet === SEMICOLON) this.#position = EXTENSION;
          else throw malformed('chunk size');
          break;
        }
        case EXTENSION:
          if (octet === CR) this.#position = LINE_FEED;
          else if (FIELD_CONTENT[octet] !== 1) throw malformed('chunk extension');
          this.#extensionBytes += 1;
          if (this.#extensionBytes > MAX_EXTENSION_BYTES) throw malformed('chunk extensions without end');
          break;
        default:
          if (octet !== LF) throw malformed('chunk size');
          this.#position = DONE;
          return at;
      }
    }
    return at;
  }
}

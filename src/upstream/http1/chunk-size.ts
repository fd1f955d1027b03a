// Reads the line before each chunk: its size, and past extensions that nobody here understands (RFC 9112 section 7.1).
import { BACKSLASH, CR, EQUALS, FIELD_CONTENT, HEX_VALUE, LF, QUOTE, SEMICOLON, TOKEN } from './grammar.ts';
import { malformed } from './response-head.ts';

/** Hexadecimal digits of one chunk size, leading zeros included; 13 stay below 2^53. */
const MAX_DIGITS = 13;

/** Bytes of chunk extensions in one response: they cost work and carry nothing. */
const MAX_EXTENSION_BYTES = 16 * 1024;

type Position = number;
const FIRST_DIGIT: Position = 0;
const DIGITS: Position = 1;
const NAME_START: Position = 2;
const NAME: Position = 3;
const VALUE_START: Position = 4;
const VALUE: Position = 5;
const QUOTED: Position = 6;
const ESCAPED: Position = 7;
const AFTER_QUOTED: Position = 8;
const LINE_FEED: Position = 9;
const DONE: Position = 10;

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
      if (this.#position <= DIGITS) this.#position = this.#afterDigit(octet);
      else if (this.#position === LINE_FEED) {
        if (octet !== LF) throw malformed('chunk size');
        this.#position = DONE;
        return at;
      } else {
        this.#extensionBytes += 1;
        if (this.#extensionBytes > MAX_EXTENSION_BYTES) throw malformed('chunk extensions without end');
        this.#position = afterExtension(this.#position, octet);
      }
    }
    return at;
  }

  #afterDigit(octet: number): Position {
    const value = HEX_VALUE[octet];
    if (value !== 255) {
      this.#digits += 1;
      if (this.#digits > MAX_DIGITS) throw malformed('chunk size');
      this.#size = this.#size * 16 + value;
      return DIGITS;
    }
    if (this.#position === DIGITS && octet === CR) return LINE_FEED;
    if (this.#position === DIGITS && octet === SEMICOLON) return NAME_START;
    throw malformed('chunk size');
  }
}

/** `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the whitespace that only old senders put in. */
function afterExtension(position: Position, octet: number): Position {
  switch (position) {
    case QUOTED:
      if (octet === QUOTE) return AFTER_QUOTED;
      if (octet === BACKSLASH) return ESCAPED;
      if (FIELD_CONTENT[octet] === 1) return QUOTED;
      break;
    case ESCAPED:
      if (FIELD_CONTENT[octet] === 1) return QUOTED;
      break;
    case NAME_START:
      if (TOKEN[octet] === 1) return NAME;
      break;
    case VALUE_START:
      if (TOKEN[octet] === 1) return VALUE;
      if (octet === QUOTE) return QUOTED;
      break;
    default:
      if (octet === CR) return LINE_FEED;
      if (octet === SEMICOLON) return NAME_START;
      if (position === NAME && octet === EQUALS) return VALUE_START;
      if (position !== AFTER_QUOTED && TOKEN[octet] === 1) return position;
  }
  throw malformed('chunk extension');
}

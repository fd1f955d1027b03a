// Turns the octets that arrive on one connection into the parts of its responses, whatever their boundaries (RFC 9112).
import { ChunkSizeReader } from './chunk-size.ts';
import { allowedAsTrailer, CR, isFraming, LF } from './grammar.ts';
import { emptyHead, malformed, namesOption, type ResponseHead, readFields, readHead } from './response-head.ts';
import { SectionBuffer } from './section-buffer.ts';

/** Takes the parts of a response in their order, all within the call that brought the octets. */
export interface ResponseSink {
  /** `parser.head` is an interim response other than 101. False: stop here for now. */
  onInterim(): boolean;
  /** `parser.head` is the final response. False: stop here for now. */
  onHead(): boolean;
  /** The chunk is the sink's to keep. False: stop here for now. */
  onData(chunk: Buffer): boolean;
  /**
   * The response is complete.
   * @param surplus - octets follow that belong to no response
   */
  onEnd(rawTrailers: string[] | null, surplus: boolean): void;
  /** The upgrade that was asked for was granted; what follows the head is no longer HTTP. */
  onUpgrade(rest: Buffer): void;
}

/** What the request says about how its response is to be read. */
export interface Expectation {
  readonly method: string;
  /** Lower-case protocol that was asked for; null: none. */
  readonly upgrade: string | null;
}

type State = number;
const IDLE: State = 0;
const HEAD: State = 1;
const LENGTH: State = 2;
const UNTIL_CLOSE: State = 3;
const CHUNK_SIZE: State = 4;
const CHUNK_DATA: State = 5;
const CHUNK_CR: State = 6;
const CHUNK_LF: State = 7;
const TRAILERS: State = 8;
const END: State = 9;

export class ResponseParser {
  readonly head: ResponseHead = emptyHead();
  readonly #sink: ResponseSink;
  readonly #section: SectionBuffer;
  readonly #size = new ChunkSizeReader();
  #state = IDLE;
  #expected: Expectation | null = null;
  /** Octets that the body or the chunk still lacks. */
  #remaining = 0;
  #rawTrailers: string[] | null = null;

  /** @param maxHeadBytes - bound of one head, and of one trailer section */
  constructor(sink: ResponseSink, maxHeadBytes: number) {
    this.#sink = sink;
    this.#section = new SectionBuffer(maxHeadBytes);
  }

  /** A request was sent: its response comes next. */
  expect(expectation: Expectation): void {
    this.#expected = expectation;
    this.#rawTrailers = null;
    this.#section.clear();
    this.#state = HEAD;
  }

  /** Whether a body was announced where none may follow, so that a sloppy upstream may still send one. */
  get announcedAbsentBody(): boolean {
    return this.#withoutBody && (this.head.chunked || this.head.contentLength > 0);
  }

  /** Whether the final head has been read. */
  get headComplete(): boolean {
    return this.#state > HEAD;
  }

  get #withoutBody(): boolean {
    const { statusCode } = this.head;
    return this.#expected?.method === 'HEAD' || statusCode === 204 || statusCode === 304;
  }

  /**
   * Reads `octets[at, end)`.
   * @param stable - nobody writes to `octets` again: body chunks may be views of it instead of copies
   * @returns where it stopped: at `end`, or earlier when the sink said so
   * @throws TransportError when the response is malformed
   */
  execute(octets: Buffer, at: number, end: number, stable: boolean): number {
    while (at < end || this.#state === END) {
      switch (this.#state) {
        case HEAD: {
          const length = this.#section.take(octets, at, end, true);
          if (length === 0) return end;
          at += length;
          const goOn = this.#readHead(octets, at, end);
          if (this.#state === IDLE) return end;
          if (!goOn) return at;
          break;
        }
        case LENGTH:
        case UNTIL_CLOSE:
        case CHUNK_DATA: {
          const available = end - at;
          const length = this.#state === UNTIL_CLOSE || available < this.#remaining ? available : this.#remaining;
          const chunk = stable ? octets.subarray(at, at + length) : copy(octets, at, length);
          at += length;
          if (this.#state !== UNTIL_CLOSE) {
            this.#remaining -= length;
            if (this.#remaining === 0) this.#state = this.#state === LENGTH ? END : CHUNK_CR;
          }
          if (!this.#sink.onData(chunk)) return at;
          break;
        }
        case CHUNK_CR:
          if (octets[at++] !== CR) throw malformed('no CRLF after a chunk');
          this.#state = CHUNK_LF;
          break;
        case CHUNK_LF:
          if (octets[at++] !== LF) throw malformed('no CRLF after a chunk');
          this.#state = CHUNK_SIZE;
          break;
        case CHUNK_SIZE:
          at = this.#size.read(octets, at, end);
          if (!this.#size.complete) return at;
          this.#remaining = this.#size.next();
          this.#state = this.#remaining === 0 ? TRAILERS : CHUNK_DATA;
          break;
        case TRAILERS: {
          const length = this.#section.take(octets, at, end, false);
          if (length === 0) return end;
          at += length;
          this.#readTrailers();
          this.#state = END;
          break;
        }
        case END:
          this.#state = IDLE;
          this.#sink.onEnd(this.#rawTrailers, at < end);
          return end;
        default:
          throw malformed('octets that belong to no response');
      }
    }
    return at;
  }

  /**
   * The upstream has ended its side.
   * @returns whether that is the lawful end of a body that is delimited so; `onEnd` has then been called
   */
  finish(): boolean {
    if (this.#state !== UNTIL_CLOSE) return false;
    this.#state = IDLE;
    this.#sink.onEnd(null, false);
    return true;
  }

  /** @returns the sink's word whether to go on; the state is IDLE when this was the end of it */
  #readHead(octets: Buffer, at: number, end: number): boolean {
    const { head } = this;
    readHead(this.#section.text, head);
    this.#section.clear();
    const { statusCode } = head;
    if (this.#isUpgrade(statusCode)) {
      this.#state = IDLE;
      this.#sink.onUpgrade(copy(octets, at, end - at));
      return false;
    }
    if (statusCode === 101) throw malformed('101 for a protocol that was not asked for');
    if (statusCode < 200) {
      if (!head.persistent) throw malformed('an interim response that ends the connection');
      return this.#sink.onInterim();
    }
    this.#state = this.#bodyState();
    return this.#sink.onHead();
  }

  #isUpgrade(statusCode: number): boolean {
    const { method, upgrade } = this.#expected as Expectation;
    if (method === 'CONNECT') return statusCode >= 200 && statusCode < 300;
    return statusCode === 101 && upgrade !== null && namesOption(this.head.upgrade, upgrade);
  }

  #bodyState(): State {
    const { head } = this;
    if (this.#withoutBody) return END;
    if (head.chunked) {
      this.#size.begin();
      return CHUNK_SIZE;
    }
    if (head.contentLength === -1) {
      head.persistent = false;
      return UNTIL_CLOSE;
    }
    this.#remaining = head.contentLength;
    return head.contentLength === 0 ? END : LENGTH;
  }

  #readTrailers(): void {
    const lines: string[] = [];
    readFields(this.#section.text, 0, lines);
    this.#section.clear();
    if (lines.length === 0) return;
    const allowed: string[] = [];
    for (let i = 0; i < lines.length; i += 2) {
      if (isFraming(lines[i])) throw malformed('framing in a trailer');
      if (allowedAsTrailer(lines[i])) allowed.push(lines[i], lines[i + 1]);
    }
    this.#rawTrailers = allowed;
  }
}

function copy(octets: Buffer, at: number, length: number): Buffer {
  const chunk = Buffer.allocUnsafe(length);
  octets.copy(chunk, 0, at, at + length);
  return chunk;
}

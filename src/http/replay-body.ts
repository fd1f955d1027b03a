// A request body between the client and whoever sends it: read once, and kept within a bound for another try or a copy.
import { Readable } from 'node:stream';

/** What a body may say of its arrival beside being a stream (IncomingMessage, metered-request.ts). */
interface Arriving extends Readable {
  readonly complete?: boolean;
  readonly receivedBytes?: number;
  readonly rawTrailers?: string[];
}

/**
 * A request body that is read once and can be sent several times. Reads its source only as fast as the reader that is open
 * takes it; what was read is kept until it is more than the limit, and never again after that.
 * Nobody else may read the source meanwhile; to drain it when all is over is anyone's right.
 */
export class ReplayBody {
  readonly source: Readable;
  #limitBytes: number;
  /** Of those who keep it: the maker, and one for each `keep`. */
  #keepers = 1;
  /** At most `#limitBytes` together; null: nothing is kept any more. */
  #kept: Buffer[] | null = [];
  #keptBytes = 0;
  #reader: ReplayReader | null = null;
  #opened = false;
  #reading = false;
  #ended = false;
  #failure: Error | null = null;
  #listeners: ((body: Buffer | null) => void)[] = [];

  /** @param limitBytes what is kept at most */
  constructor(source: Readable, limitBytes: number) {
    this.source = source;
    this.#limitBytes = limitBytes;
    if (source.destroyed || source.readableEnded) {
      this.#fail(source.errored ?? new Error('it was read or destroyed before it could be kept'));
      return;
    }
    source.on('error', this.#onError);
    source.on('close', this.#onClose);
  }

  /** False once more than the limit has been read, or when there is nothing to read: what is kept is dropped then, the open reader goes on. */
  get replayable(): boolean {
    return this.#kept !== null && this.#failure === null;
  }

  /** What broke the source off; null: nothing yet. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** The whole body, once its end was read and while replayable; else null. */
  get whole(): Buffer | null {
    if (!this.#ended || this.#kept === null) return null;
    if (this.#kept.length !== 1) this.#kept = [Buffer.concat(this.#kept)];
    return this.#kept[0];
  }

  /** For one who wants the body as well: raises the bound, and counts as one more whose `release` is waited for. */
  keep(limitBytes: number): void {
    this.#keepers += 1;
    this.#limitBytes = Math.max(this.#limitBytes, limitBytes);
  }

  /** Gives up what the constructor or one `keep` asked for. With the last one nothing is kept any more; the open reader goes on. */
  release(): void {
    this.#keepers -= 1;
    if (this.#keepers === 0) this.#drop();
  }

  /**
   * A stream for one try: what was read so far, then the rest as it comes. An earlier one is cut off silently. Whoever opened
   * it destroys it when the try is over; that only stops the reading, the source stays.
   * @throws Error when part of the body has been dropped. Ask `replayable`; the first call never throws.
   */
  open(): ReplayReader {
    if (this.#opened && this.#kept === null && this.#failure === null)
      throw new Error('part of the request body has been dropped: it cannot be sent again');
    const previous = this.#reader;
    this.#reader = null;
    previous?.destroy();
    this.#opened = true;
    const reader = new ReplayReader(this, {
      wanted: () => this.#resume(),
      closed: () => this.#closed(reader),
    });
    if (this.#failure !== null) {
      reader.destroy(this.#failure);
      return reader;
    }
    this.#reader = reader;
    for (const chunk of this.#kept ?? []) reader.push(chunk);
    if (this.#ended) reader.push(null);
    return reader;
  }

  /** Called once, at once if it is known already: when the end was read, or (null) when it is clear that the body will not be whole here. */
  onWhole(listener: (body: Buffer | null) => void): void {
    if (this.#ended || this.#kept === null || this.#failure !== null) listener(this.whole);
    else this.#listeners.push(listener);
  }

  /** For those who wait for the whole once no reader is open any more: reads on. What does not fit is thrown away. */
  drain(): void {
    this.#resume();
  }

  #resume(): void {
    if (this.#ended || this.#failure !== null) return;
    if (!this.#reading) {
      this.#reading = true;
      this.source.on('data', this.#onData);
      this.source.on('end', this.#onEnd);
    }
    this.source.resume();
  }

  /** Its consumer gave up, or it has given everything. */
  #closed(reader: ReplayReader): void {
    if (this.#reader !== reader) return;
    this.#reader = null;
    if (this.#reading && !this.#ended) this.source.pause();
  }

  readonly #onData = (data: Buffer | string): void => {
    if (typeof data !== 'string' && !(data instanceof Uint8Array)) {
      this.#fail(new TypeError('a request body consists of bytes'));
      return;
    }
    const chunk = typeof data === 'string' ? Buffer.from(data) : data;
    if (chunk.length === 0) return;
    const reader = this.#reader;
    this.#remember(chunk);
    // Without a reader somebody drains the source, and is not to be held up.
    if (reader === null && this.#kept === null) this.#fail(new Error('part of it was dropped'));
    else if (reader !== null && (!reader.push(chunk) || reader.isPaused())) this.source.pause();
  };

  #remember(chunk: Buffer): void {
    if (this.#kept === null) return;
    this.#keptBytes += chunk.length;
    if (this.#keptBytes <= this.#limitBytes) this.#kept.push(chunk);
    else this.#drop();
  }

  readonly #onEnd = (): void => {
    // Node's server takes listeners off a request that it drains: what it read was not given to us.
    if (!this.source.listeners('data').includes(this.#onData)) {
      this.#fail(new Error('it was read by somebody else'));
      return;
    }
    this.#ended = true;
    this.#unlisten();
    this.#reader?.push(null);
    this.#tell();
  };

  readonly #onError = (error: Error): void => this.#fail(error);

  readonly #onClose = (): void => this.#fail(this.source.errored ?? new Error('it was closed before its end'));

  #fail(error: Error): void {
    if (this.#failure !== null || this.#ended) return;
    this.#failure = error;
    this.#unlisten();
    const { source } = this;
    // An error of a stream that nobody listens to any more would end the process.
    if (!source.destroyed && source.listenerCount('error') === 0) source.on('error', ignore);
    const reader = this.#reader;
    this.#reader = null;
    this.#drop();
    reader?.destroy(error);
  }

  #drop(): void {
    this.#kept = null;
    this.#tell();
  }

  #tell(): void {
    const listeners = this.#listeners;
    if (listeners.length === 0) return;
    this.#listeners = [];
    const { whole } = this;
    for (const listener of listeners) listener(whole);
  }

  #unlisten(): void {
    const { source } = this;
    source.off('data', this.#onData);
    source.off('end', this.#onEnd);
    source.off('error', this.#onError);
    source.off('close', this.#onClose);
  }
}

interface ReaderOwner {
  wanted(): void;
  closed(): void;
}

/** One sending of a ReplayBody. It says of its arrival what the source says, so that whoever times uploads can go by it. */
export class ReplayReader extends Readable {
  readonly origin: ReplayBody;
  readonly #owner: ReaderOwner;

  /** Made by `ReplayBody.open`. */
  constructor(origin: ReplayBody, owner: ReaderOwner) {
    // Nothing is read ahead: what the consumer has not asked for stays where it holds the client back.
    super({ highWaterMark: 0 });
    this.origin = origin;
    this.#owner = owner;
    // It may fail before anybody listens.
    this.on('error', ignore);
  }

  /** Everything has arrived, whether or not it has been read. */
  get complete(): boolean {
    const { source } = this.origin;
    return (source as Arriving).complete ?? source.readableEnded;
  }

  /** Bytes that have arrived, whether or not they have been read; undefined: the source does not say. */
  get receivedBytes(): number | undefined {
    return (this.origin.source as Arriving).receivedBytes;
  }

  /** Name and value in turn; complete when the stream ends. */
  get rawTrailers(): string[] {
    return (this.origin.source as Arriving).rawTrailers ?? [];
  }

  override _read(): void {
    this.#owner.wanted();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#owner.closed();
    callback(error);
  }
}

function ignore(): void {}

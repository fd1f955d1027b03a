// Where spans leave the process: a bounded queue, sent in batches off the request's path, whatever becomes of the collector.
import type { Post } from './collector.ts';

/** Spans that wait; what comes beyond is dropped and counted. Each is at most some 4 KiB of text. */
const MAX_QUEUE = 2_048;
const BATCH = 512;
const INTERVAL_MS = 5_000;
/** Tries of one batch. */
const MAX_TRIES = 5;
const FIRST_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
/** The last flush, tries included: nobody waits for a collector longer than this. */
const FLUSH_MS = 5_000;

export type Result = 'exported' | 'dropped' | 'failed';

export interface ExporterEvents {
  counted(result: Result, spans: number): void;
  /** Once until the next batch that is taken. */
  onTrouble(error: Error): void;
  onRecovery(): void;
}

/** Time, for tests to stand still. Handles do not keep the process alive. */
export interface Clock {
  set(callback: () => void, ms: number): unknown;
  clear(handle: unknown): void;
  /** Uniform, in [0, 1). */
  random(): number;
}

const realClock: Clock = {
  set: (callback, ms) => setTimeout(callback, ms).unref(),
  clear: (handle) => clearTimeout(handle as NodeJS.Timeout),
  random: Math.random,
};

interface Waiting {
  readonly source: string;
  readonly span: string;
}

export class SpanExporter {
  readonly #post: Post;
  readonly #events: ExporterEvents;
  readonly #clock: Clock;
  #queue: Waiting[] = [];
  #timer: unknown = null;
  /** The loop that sends, while it runs. */
  #sending: Promise<void> | null = null;
  /** Ends the pause between two tries. */
  #wake: (() => void) | null = null;
  #closing = false;
  #late = false;
  #troubled = false;

  constructor(post: Post, events: ExporterEvents, clock: Clock = realClock) {
    this.#post = post;
    this.#events = events;
    this.#clock = clock;
  }

  /** `source`: whose span it is, as the fields `resource` and `scope` in JSON. */
  add(source: string, span: string): void {
    if (this.#closing || this.#queue.length >= MAX_QUEUE) {
      this.#events.counted('dropped', 1);
      return;
    }
    this.#queue.push({ source, span });
    if (this.#sending !== null) return;
    if (this.#queue.length >= BATCH) this.#start();
    else this.#timer ??= this.#clock.set(() => this.#start(), INTERVAL_MS);
  }

  /** Sends what waits, with one try a batch. Takes at most `FLUSH_MS`; what is left then has failed. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const deadline = this.#clock.set(() => {
      this.#late = true;
      this.#post.close();
    }, FLUSH_MS);
    this.#wake?.();
    await this.#sending;
    if (this.#queue.length > 0) {
      this.#start();
      await this.#sending;
    }
    this.#clock.clear(deadline);
    this.#clear();
    this.#post.close();
  }

  #clear(): void {
    if (this.#timer !== null) this.#clock.clear(this.#timer);
    this.#timer = null;
  }

  #start(): void {
    this.#clear();
    this.#sending = this.#send();
  }

  /** Never rejects. */
  async #send(): Promise<void> {
    do {
      await this.#deliver(this.#queue.splice(0, BATCH));
    } while (this.#queue.length >= BATCH || (this.#closing && this.#queue.length > 0));
    this.#sending = null;
    if (this.#queue.length > 0) this.#timer = this.#clock.set(() => this.#start(), INTERVAL_MS);
  }

  async #deliver(batch: readonly Waiting[]): Promise<void> {
    const body = encode(batch);
    for (let tries = 1; ; tries++) {
      if (this.#late) {
        this.#events.counted('failed', batch.length);
        return;
      }
      const answer = await this.#post.send(body);
      if (answer.error === null) {
        const rejected = Math.min(answer.rejected, batch.length);
        if (batch.length > rejected) this.#events.counted('exported', batch.length - rejected);
        if (rejected > 0) this.#events.counted('failed', rejected);
        if (this.#troubled) this.#events.onRecovery();
        this.#troubled = false;
        return;
      }
      if (!this.#troubled) this.#events.onTrouble(answer.error);
      this.#troubled = true;
      if (!answer.again || tries >= MAX_TRIES || this.#closing) {
        this.#events.counted('failed', batch.length);
        return;
      }
      await this.#pause(Math.min(MAX_BACKOFF_MS, Math.max(answer.afterMs, this.#backoff(tries))));
    }
  }

  /** Between half and all of it, so that many processes do not come back at once. */
  #backoff(tries: number): number {
    return FIRST_BACKOFF_MS * 2 ** (tries - 1) * (0.5 + this.#clock.random() / 2);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#clock.clear(timer);
        this.#wake = null;
        resolve();
      };
      const timer = this.#clock.set(done, ms);
      this.#wake = done;
    });
  }
}

/** OTLP's ExportTraceServiceRequest in Protobuf's JSON. */
function encode(batch: readonly Waiting[]): string {
  const spans = new Map<string, string[]>();
  for (const { source, span } of batch) {
    const group = spans.get(source);
    if (group === undefined) spans.set(source, [span]);
    else group.push(span);
  }
  const groups = [...spans].map(([source, group]) => source.replace(SPANS, () => `"spans":[${group.join(',')}]`));
  return `{"resourceSpans":[${groups.join(',')}]}`;
}

/** Where the spans go in `source`: no JSON text contains it, since quotes inside strings are escaped. */
const SPANS = '"spans":[]';

/** Whose spans they are: names by which tracing backends group. */
export function sourceOf(serviceName: string, version: string, instance: string): string {
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  return JSON.stringify({
    resource: {
      attributes: [
        attribute('service.name', serviceName),
        attribute('service.namespace', 'selvedge'),
        attribute('service.version', version),
        attribute('service.instance.id', instance),
      ],
    },
    scopeSpans: [{ scope: { name: 'selvedge', version }, spans: [] }],
  });
}

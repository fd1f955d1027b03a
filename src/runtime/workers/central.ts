// Counts that all workers share: a worker asks in batches, the supervisor answers from services that it keeps, one after the other.
import type { Central, CentralQuestion, CentralService } from '../../plugin.ts';
import type { Channel } from './channel.ts';

/** By name; each is loaded with the first question for it. */
export type CentralServices = ReadonlyMap<string, () => Promise<CentralService>>;

/** `id` 0: told, not asked. */
export type Asked = readonly [id: number, service: string, question: unknown];
type Answered = readonly [id: number, answer: unknown, failure: string | null];

/**
 * Longer than a request waits for a store on the network: the supervisor is on this machine, and where it gets no time the workers get
 * none either. Only the first to find it silent wait so long.
 */
const TIMEOUT_MS = 1_000;

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
  readonly onLate: CentralQuestion['onLate'];
  late: boolean;
}

/** In a worker. */
export class CentralClient implements Central {
  readonly #channel: Pick<Channel, 'tell'>;
  /** By id. Late ones stay until their answer comes: bounded by requests under way, in a supervisor that lives. */
  readonly #waiting = new Map<number, Waiting>();
  #batch: Asked[] = [];
  /** One that has questions is under way: what comes meanwhile travels behind it, together. The busier, the larger. */
  #underWay = false;
  #scheduled = false;
  /** It did not answer in time: until it does, nobody waits for it. */
  #stuck = false;
  #ids = 0;
  #gone = false;

  constructor(channel: Pick<Channel, 'tell'>) {
    this.#channel = channel;
  }

  ask(service: string, question: unknown, { timeoutMs = TIMEOUT_MS, onLate }: CentralQuestion = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#gone || this.#stuck) {
        reject(new Error(this.#gone ? 'the supervisor is gone' : 'the supervisor does not answer'));
        return;
      }
      const id = ++this.#ids;
      // A worker that was held up itself finds the timer due before it reads the answer that has been there for long.
      const timer = setTimeout(() => setImmediate(() => this.#tooLate(id, timeoutMs)), timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer, onLate, late: false });
      this.#add([id, service, question]);
    });
  }

  tell(service: string, message: unknown): void {
    if (!this.#gone) this.#add([0, service, message]);
  }

  /** What the supervisor answered. */
  answered(answers: readonly Answered[]): void {
    this.#underWay = false;
    this.#stuck = false;
    this.#schedule();
    for (const [id, answer, failure] of answers) {
      const waiting = this.#waiting.get(id);
      if (waiting === undefined) continue;
      this.#waiting.delete(id);
      clearTimeout(waiting.timer);
      if (waiting.late) {
        if (failure === null) waiting.onLate?.(answer);
      } else if (failure === null) waiting.resolve(answer);
      else waiting.reject(new Error(failure));
    }
  }

  /** The supervisor has ended. */
  close(): void {
    this.#gone = true;
    this.#batch = [];
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Error('the supervisor is gone'));
    }
    this.#waiting.clear();
  }

  #tooLate(id: number, timeoutMs: number): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    waiting.late = true;
    // One that was never sent needs no answer.
    const sent = !this.#batch.some(([asked]) => asked === id);
    if (sent) this.#stuck = true;
    else this.#batch = this.#batch.filter(([asked]) => asked !== id);
    if (!sent || waiting.onLate === undefined) this.#waiting.delete(id);
    waiting.reject(new Error(`the supervisor did not answer within ${timeoutMs} ms`));
  }

  #add(asked: Asked): void {
    this.#batch.push(asked);
    this.#schedule();
  }

  /** Behind all that this turn of the event loop has read. */
  #schedule(): void {
    if (this.#scheduled || this.#underWay || this.#batch.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const batch = this.#batch;
      if (batch.length === 0) return;
      this.#batch = [];
      this.#underWay = batch.some(([id]) => id !== 0);
      this.#channel.tell('central', batch);
    });
  }
}

/** In the supervisor. */
export class CentralDesk {
  readonly #load: CentralServices;
  readonly #loading = new Map<string, Promise<CentralService>>();
  readonly #services = new Map<string, CentralService>();

  constructor(services: CentralServices) {
    this.#load = services;
  }

  /** In the order of the batch: nothing comes between a question and its answer. Whoever asks waits for the answers with the next batch. */
  async handle(worker: number, batch: readonly Asked[], reply: (answers: readonly Answered[]) => void): Promise<void> {
    for (const [, service] of batch) if (!this.#services.has(service)) await this.#open(service).catch(() => undefined);
    const answers: Answered[] = [];
    for (const [id, name, question] of batch) {
      try {
        const service = this.#services.get(name);
        if (service === undefined) throw new Error(`there is no central service "${name}"`);
        if (id === 0) service.tell(worker, question);
        else answers.push([id, service.ask(worker, question), null]);
      } catch (error) {
        if (id !== 0) answers.push([id, null, (error as Error).message]);
      }
    }
    if (answers.length > 0) reply(answers);
  }

  gone(worker: number): void {
    for (const service of this.#services.values()) service.gone(worker);
  }

  #open(name: string): Promise<CentralService> {
    let loading = this.#loading.get(name);
    if (loading === undefined) {
      const load = this.#load.get(name);
      if (load === undefined) return Promise.reject(new Error(`there is no central service "${name}"`));
      loading = load().then((service) => {
        this.#services.set(name, service);
        return service;
      });
      this.#loading.set(name, loading);
    }
    return loading;
  }
}

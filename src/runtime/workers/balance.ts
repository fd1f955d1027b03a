// Which worker has a connection: the kernel gives it to whoever is quick, and who has too many hands it on, so that all have about as many.
//
// Workers accept by themselves, which costs nothing more than in one process. A busy machine lets one of them take a whole burst, though,
// and connections are kept for long; so those beyond a fair share go by the supervisor to whoever has the fewest.
import type { Channel } from './channel.ts';

/** More than the one with the fewest may have: so many, or this share. */
const MARGIN = 4;
const MARGIN_SHARE = 0.25;
/** Instead of infinity, which JSON does not know. */
const NOBODY_ELSE = Number.MAX_SAFE_INTEGER;
/** Connections on their way to a supervisor that says nothing: beyond these it is taken for stuck, and they stay. */
const MAX_UNANSWERED = 32;
/** How often a worker says how many it has, when that has changed. */
const REPORT_MS = 100;

/** A handle as Node's net uses it: it listens, or it is a connection that was accepted and not read from. */
export interface Handle {
  onconnection?: (error: number, client: Handle | undefined) => void;
  close(): void;
}

/** Handed from worker to supervisor to worker, with the connection beside it. */
export interface Handed {
  /** Where it came in; see `addressOf`. */
  readonly at: string;
  /** Connections of the worker that hands it on. */
  readonly has: number;
}

/** The same in all workers, also when the names of a config change. */
export function addressOf({ key, host, port }: { key: string; host: string; port: number }): string {
  return port === 0 ? key : `${host} ${port}`;
}

/** In a worker. */
export class Share {
  readonly #channel: Pick<Channel, 'tell'>;
  readonly #count: () => number;
  /** Those that listen, with Node's own way in. As many as addresses were ever listened on. */
  readonly #doors = new Map<string, (client: Handle) => void>();
  /** On their way to the supervisor; where they came in. */
  readonly #leaving = new Map<Handle, string>();
  readonly #reports: NodeJS.Timeout;
  /** Of the worker that has the fewest connections. */
  #fewest = NOBODY_ELSE;
  #reported = 0;
  #unanswered = 0;

  /** @param count open connections of this worker */
  constructor(channel: Pick<Channel, 'tell'>, count: () => number) {
    this.#channel = channel;
    this.#count = count;
    this.#reports = setInterval(() => this.#report(), REPORT_MS).unref();
  }

  /** A server of this worker listens on `handle` from now on. */
  opened(at: string, handle: Handle): void {
    const accept = handle.onconnection;
    if (accept === undefined) return;
    this.#doors.set(at, (client) => accept.call(handle, 0, client));
    handle.onconnection = (error, client) => {
      const has = this.#count();
      if (client === undefined || error !== 0 || this.#unanswered >= MAX_UNANSWERED || !isTooMany(has, this.#fewest)) {
        accept.call(handle, error, client);
        return;
      }
      this.#unanswered++;
      this.#leaving.set(client, at);
      this.#channel.tell('connection', { at, has }, client, () => {
        this.#leaving.delete(client);
        client.close();
      });
    };
  }

  /** From another worker. */
  handed(at: string, client: Handle): void {
    const enter = this.#doors.get(at);
    // A reload has closed the listener meanwhile.
    if (enter === undefined) client.close();
    else enter(client);
  }

  fewest(count: number): void {
    this.#unanswered = 0;
    this.#fewest = count;
  }

  /** Nobody is there to hand anything to: what was on its way stays here. */
  alone(): void {
    this.close();
    this.#fewest = NOBODY_ELSE;
    for (const [client, at] of this.#leaving) this.handed(at, client);
    this.#leaving.clear();
  }

  close(): void {
    clearInterval(this.#reports);
  }

  #report(): void {
    const count = this.#count();
    if (count === this.#reported) return;
    this.#reported = count;
    this.#channel.tell('connections', count);
  }
}

function isTooMany(has: number, fewest: number): boolean {
  return has > fewest + Math.max(MARGIN, fewest * MARGIN_SHARE);
}

/** `sent` is called once `handle` is on its way; not at all where the worker ends before. */
type TellWorker = (worker: number, about: string, argument: unknown, handle?: Handle, sent?: () => void) => void;

/** In the supervisor. */
export class Shares {
  /** By worker; those that serve. */
  readonly #counts = new Map<number, number>();
  readonly #tell: TellWorker;
  /** On their way to a worker: Node sends one after the other, and says nothing of those that a worker which ends leaves behind. */
  readonly #underWay = new Map<Handle, { readonly to: number; readonly at: string }>();
  readonly #answers: (worker: number) => boolean;
  #told = NOBODY_ELSE;

  /** @param answers whether a worker does what it is told: one that hangs is handed nothing */
  constructor(tell: TellWorker, answers: (worker: number) => boolean) {
    this.#tell = tell;
    this.#answers = answers;
  }

  /** It serves: what is too much for others may come to it. */
  joined(worker: number): void {
    if (!this.#counts.has(worker)) this.counted(worker, 0);
  }

  counted(worker: number, count: number): void {
    this.#counts.set(worker, count);
    this.#tellFewest(null);
  }

  gone(worker: number): void {
    this.#counts.delete(worker);
    const left = [...this.#underWay].filter(([, { to }]) => to === worker);
    for (const [client, { at }] of left) {
      this.#underWay.delete(client);
      this.#place(at, client);
    }
    this.#tellFewest(null);
  }

  /** To whoever has the fewest, which may be where it comes from. */
  hand(from: number, { at, has }: Handed, client: Handle): void {
    if (this.#counts.has(from)) this.#counts.set(from, has);
    this.#place(at, client);
    this.#tellFewest(from);
  }

  #place(at: string, client: Handle): void {
    const able = [...this.#counts].filter(([worker]) => this.#answers(worker));
    const [first, ...others] = able.length > 0 ? able : [...this.#counts];
    if (first === undefined) {
      client.close();
      return;
    }
    const [to, count] = others.reduce((least, one) => (one[1] < least[1] ? one : least), first);
    this.#counts.set(to, count + 1);
    this.#underWay.set(client, { to, at });
    this.#tell(to, 'connection', at, client, () => {
      if (this.#underWay.delete(client)) client.close();
    });
  }

  /** `also`: somebody who goes by an old number. */
  #tellFewest(also: number | null): void {
    const fewest = this.#counts.size < 2 ? NOBODY_ELSE : Math.min(...this.#counts.values());
    if (fewest === this.#told && also === null) return;
    this.#told = fewest;
    for (const worker of this.#counts.keys()) this.#tell(worker, 'fewest', fewest);
  }
}

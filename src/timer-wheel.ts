// Keeps the time of every request: one coarse hashed wheel instead of a setTimeout per request, attempt and connection.

/** A timeout that was asked for by `after`. */
export interface WheelTimer {
  /** Does nothing once it has fired. */
  cancel(): void;
}

export interface Wheel {
  /**
   * Calls `fire` once, never before `ms` milliseconds have passed and at most two resolutions later.
   * @throws RangeError when `ms` is not finite.
   */
  after(ms: number, fire: () => void): WheelTimer;
  /** Milliseconds on the process clock (performance.now unless injected). */
  now(): number;
}

/** Where the wheel takes its time from. The defaults are performance.now and an unref'd setTimeout. */
export interface WheelClock {
  now(): number;
  setTimeout(wake: () => void, ms: number): unknown;
  clearTimeout(timeout: unknown): void;
}

export interface WheelOptions extends Partial<WheelClock> {
  /** Told when a callback throws; the others of that tick run all the same. Default: a process warning. */
  readonly onError?: (error: Error) => void;
}

/** Milliseconds between two ticks. Only those are run at which something waits: a process that has nothing to do sleeps. */
export const RESOLUTION_MS = 20;

/** One turn is 10.24 s; what is due later stays in its slot for further turns. */
const SLOTS = 512;

/**
 * Something that can wait on a wheel, once at a time. Policies extend it, so that a timeout costs no allocation of its own.
 */
export abstract class WheelEntry {
  /** The wheel it waits on; null: it does not wait. Owned by the wheel. */
  waitingOn: TimerWheel | null = null;
  dueTick = 0;
  previousEntry: WheelEntry | null = null;
  nextEntry: WheelEntry | null = null;

  /** Runs when the time is up. The entry may be scheduled anew from here. */
  abstract onTimer(): void;

  cancel(): void {
    this.waitingOn?.remove(this);
  }
}

class Slot extends WheelEntry {
  constructor() {
    super();
    this.previousEntry = this;
    this.nextEntry = this;
  }

  append(entry: WheelEntry): void {
    const last = this.previousEntry as WheelEntry;
    last.nextEntry = entry;
    entry.previousEntry = last;
    entry.nextEntry = this;
    this.previousEntry = entry;
  }

  override onTimer(): void {}
}

class CallbackEntry extends WheelEntry implements WheelTimer {
  readonly fire: () => void;

  constructor(fire: () => void) {
    super();
    this.fire = fire;
  }

  override onTimer(): void {
    this.fire();
  }
}

/** -1: not asked yet in this turn of the event loop. */
let readAt = -1;

/**
 * performance.now(), read once a turn of the event loop: a request asks for the time nine times, and its timers are coarser than
 * any turn. An immediate ends the turn, and while one is due libuv does not wait for events: what was read never gets old.
 */
function turnTime(): number {
  if (readAt === -1) {
    readAt = performance.now();
    setImmediate(endTurn);
  }
  return readAt;
}

function endTurn(): void {
  readAt = -1;
}

const processClock: WheelClock = {
  now: turnTime,
  setTimeout: (wake, ms) => setTimeout(wake, ms).unref(),
  clearTimeout: (timeout) => clearTimeout(timeout as NodeJS.Timeout),
};

/** Hashed timing wheel (Varghese and Lauck, scheme 6): insert and cancel in constant time, one timeout for the next slot that is not empty. */
export class TimerWheel implements Wheel {
  readonly now: () => number;
  readonly #clock: WheelClock;
  readonly #onError: (error: Error) => void;
  readonly #slots: readonly Slot[] = Array.from({ length: SLOTS }, () => new Slot());
  readonly #expired = new Slot();
  readonly #wake = () => this.#advance();
  #timeout: unknown = null;
  /** The tick at which `#timeout` wakes it; Infinity: it sleeps until something is scheduled. */
  #wakesAt = Number.POSITIVE_INFINITY;
  /** The last tick whose slot was looked at. */
  #currentTick = 0;
  #waiting = 0;
  /** Entries may be scheduled while others fire; when to wake next is decided once, at the end. */
  #advancing = false;

  constructor(options: WheelOptions = {}) {
    this.#clock = {
      now: options.now ?? processClock.now,
      setTimeout: options.setTimeout ?? processClock.setTimeout,
      clearTimeout: options.clearTimeout ?? processClock.clearTimeout,
    };
    this.now = this.#clock.now;
    this.#onError = options.onError ?? ((error) => process.emitWarning(error));
  }

  /** How many entries wait. */
  get waiting(): number {
    return this.#waiting;
  }

  after(ms: number, fire: () => void): WheelTimer {
    const entry = new CallbackEntry(fire);
    this.schedule(entry, ms);
    return entry;
  }

  /**
   * Lets `entry.onTimer` run once, never before `ms` milliseconds have passed. An entry that already waits is moved.
   * @throws RangeError when `ms` is not finite.
   */
  schedule(entry: WheelEntry, ms: number): void {
    if (!Number.isFinite(ms)) throw new RangeError(`a timeout is a finite number of milliseconds, not ${ms}`);
    if (entry.waitingOn !== null) entry.waitingOn.remove(entry);
    const now = this.now();
    if (this.#waiting === 0) this.#currentTick = Math.max(this.#currentTick, Math.floor(now / RESOLUTION_MS));
    // A slot that was already looked at in this turn would make the entry wait for a whole turn.
    entry.dueTick = Math.max(Math.ceil((now + ms) / RESOLUTION_MS), this.#currentTick + 1);
    entry.waitingOn = this;
    this.#slots[entry.dueTick % SLOTS].append(entry);
    this.#waiting += 1;
    if (entry.dueTick < this.#wakesAt && !this.#advancing) this.#wakeAt(entry.dueTick, now);
  }

  /** Takes an entry off the wheel; `entry.cancel()` is the usual way. */
  remove(entry: WheelEntry): void {
    if (entry.waitingOn !== this) return;
    unlink(entry);
    entry.waitingOn = null;
    this.#waiting -= 1;
  }

  #wakeAt(tick: number, now: number): void {
    if (this.#timeout !== null) this.#clock.clearTimeout(this.#timeout);
    this.#wakesAt = tick;
    this.#timeout = this.#clock.setTimeout(this.#wake, Math.max(1, Math.ceil(tick * RESOLUTION_MS - now)));
  }

  #advance(): void {
    this.#timeout = null;
    this.#wakesAt = Number.POSITIVE_INFINITY;
    this.#advancing = true;
    const target = Math.floor(this.now() / RESOLUTION_MS);
    // After a stall of more than one turn every slot is looked at once.
    const first = Math.max(this.#currentTick + 1, target - SLOTS + 1);
    for (let tick = first; tick <= target; tick++) this.#collect(this.#slots[tick % SLOTS], target);
    if (target > this.#currentTick) this.#currentTick = target;
    try {
      this.#fireExpired();
    } finally {
      this.#advancing = false;
      if (this.#waiting > 0) this.#wakeAt(this.#nextTick(), this.now());
    }
  }

  /** That of the next slot with an entry in it, even if all in it wait for a later turn of the wheel. */
  #nextTick(): number {
    const next = this.#currentTick + 1;
    for (let tick = next; tick < next + SLOTS; tick++) {
      const slot = this.#slots[tick % SLOTS];
      if (slot.nextEntry !== slot) return tick;
    }
    return next;
  }

  #collect(slot: Slot, target: number): void {
    let entry = slot.nextEntry as WheelEntry;
    while (entry !== slot) {
      const next = entry.nextEntry as WheelEntry;
      if (entry.dueTick <= target) {
        unlink(entry);
        this.#expired.append(entry);
      }
      entry = next;
    }
  }

  /** Takes one at a time from the list, since a callback may cancel others that are due. */
  #fireExpired(): void {
    for (let entry = this.#expired.nextEntry as WheelEntry; entry !== this.#expired; ) {
      this.remove(entry);
      try {
        entry.onTimer();
      } catch (error) {
        this.#onError(error instanceof Error ? error : new Error(String(error)));
      }
      entry = this.#expired.nextEntry as WheelEntry;
    }
  }
}

function unlink(entry: WheelEntry): void {
  const previous = entry.previousEntry as WheelEntry;
  const next = entry.nextEntry as WheelEntry;
  previous.nextEntry = next;
  next.previousEntry = previous;
  entry.previousEntry = null;
  entry.nextEntry = null;
}

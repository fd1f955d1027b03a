// Requests that wait while no endpoint of their service is up (`connections.waitForEndpoint`): the one queue before an endpoint is chosen.
import type { DispatchController, DispatchHandler } from '../dispatch.ts';
import { LinkedList, type Member } from '../linked-list.ts';
import { type TimerWheel, WheelEntry } from '../timer-wheel.ts';

/** Bounded by `connections.pending`: whoever adds to it looks first. */
export class WaitingRoom extends WheelEntry {
  readonly #waiting = new LinkedList<Waiting>();

  get size(): number {
    return this.#waiting.size;
  }

  /** @param tryAgain returns whether an endpoint was found; runs again and again until then */
  add(handler: DispatchHandler, wheel: TimerWheel, forMs: number, tryAgain: () => boolean, late: () => Error): void {
    const waiting = new Waiting(handler, tryAgain, late);
    this.#waiting.push(waiting);
    wheel.schedule(waiting, forMs);
    // Who leaves meanwhile is noticed at once.
    handler.onRequestStart?.(waiting, null);
  }

  /** An endpoint may be up: with the next tick, since whoever noticed is in the middle of something. */
  wake(wheel: TimerWheel): void {
    if (this.#waiting.size > 0 && this.waitingOn === null) wheel.schedule(this, 0);
  }

  override onTimer(): void {
    for (const waiting of [...this.#waiting]) waiting.look();
  }
}

class Waiting extends WheelEntry implements DispatchController, Member<Waiting> {
  list: LinkedList<Waiting> | null = null;
  previous: Waiting | null = null;
  next: Waiting | null = null;
  paused = false;
  aborted = false;
  reason: Error | null = null;
  rawHeaders: string[] | null = null;
  rawTrailers: string[] | null = null;
  readonly #handler: DispatchHandler;
  readonly #tryAgain: () => boolean;
  readonly #late: () => Error;

  constructor(handler: DispatchHandler, tryAgain: () => boolean, late: () => Error) {
    super();
    this.#handler = handler;
    this.#tryAgain = tryAgain;
    this.#late = late;
  }

  look(): void {
    if (this.list !== null && this.#tryAgain()) this.#leave();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  abort(reason: Error): void {
    if (this.list === null) return;
    this.aborted = true;
    this.reason = reason;
    this.#leave();
    this.#handler.onResponseError?.(this, reason);
  }

  override onTimer(): void {
    this.#leave();
    this.#handler.onResponseError?.(this, this.#late());
  }

  #leave(): void {
    this.list?.remove(this);
    this.cancel();
  }
}

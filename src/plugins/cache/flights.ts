// One fetch for everyone who asks for the same at once: who comes later waits, within bounds, for what the first gets.
import type { DispatchHandler } from '../../plugin.ts';
import { IdleController } from './serve.ts';

/**
 * `stored`: the answer can be had from the store now. `pass`: it cannot be shared, so each goes by itself.
 * `left`: whoever fetched is gone before there was an answer; the next one fetches.
 */
export type Landing = 'stored' | 'pass' | 'left';

export class Flight {
  readonly resource: string;
  /** The resource changed while it was fetched: what comes may be from before. */
  doomed = false;
  readonly #waiting = new Set<(landing: Landing | 'late') => void>();
  readonly #onEnd: (landing: Landing) => void;
  #over = false;

  constructor(resource: string, onEnd: (landing: Landing) => void) {
    this.resource = resource;
    this.#onEnd = onEnd;
  }

  settle(landing: Landing): void {
    if (this.#over) return;
    this.#over = true;
    this.#onEnd(landing);
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const go of waiting) go(landing);
  }

  /** Calls `go` once it has landed, or after `ms`; not at all when the client leaves before. */
  wait(handler: DispatchHandler, ms: number, go: (landing: Landing | 'late') => void): void {
    const leave = (): void => {
      clearTimeout(timer);
      this.#waiting.delete(landed);
    };
    const landed = (landing: Landing | 'late'): void => {
      leave();
      try {
        go(landing);
      } catch (error) {
        handler.onResponseError?.(null, error as Error);
      }
    };
    const timer = setTimeout(landed, ms, 'late');
    this.#waiting.add(landed);
    const controller: IdleController = new IdleController((reason) => {
      leave();
      handler.onResponseError?.(controller, reason);
    });
    handler.onRequestStart?.(controller, null);
  }
}

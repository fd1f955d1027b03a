// Stands between the tries of a request and the plugins that watch them: what those throw is logged, and harms no request.
import type { FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Attempt, AttemptObserver, AttemptWatch, Outgoing } from '../plugin.ts';

/** All of a chain as one that never throws; null where there is none. */
export function joinObservers(observers: readonly AttemptObserver[], logger: Logger): AttemptObserver | null {
  if (observers.length === 0) return null;
  const failed = (error: unknown): void => logger.error({ err: error }, 'a plugin failed to watch an attempt');
  return (request: FastifyRequest, attempt: Attempt, outgoing: Outgoing): AttemptWatch | null => {
    let watches: AttemptWatch[] | null = null;
    for (const observer of observers) {
      try {
        const watch = observer(request, attempt, outgoing);
        if (watch === null) continue;
        if (watches === null) watches = [watch];
        else watches.push(watch);
      } catch (error) {
        failed(error);
      }
    }
    return watches === null ? null : new Watches(watches, failed);
  };
}

class Watches implements AttemptWatch {
  readonly headers: readonly string[];
  readonly #watches: readonly AttemptWatch[];
  readonly #failed: (error: unknown) => void;

  constructor(watches: readonly AttemptWatch[], failed: (error: unknown) => void) {
    this.headers = watches.length === 1 ? watches[0].headers : watches.flatMap(({ headers }) => headers);
    this.#watches = watches;
    this.#failed = failed;
  }

  end(attempt: Attempt): void {
    for (const watch of this.#watches) {
      try {
        watch.end(attempt);
      } catch (error) {
        this.#failed(error);
      }
    }
  }
}

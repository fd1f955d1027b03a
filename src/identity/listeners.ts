// Tells those who use certificates that there are others now; in common to all sources.

export interface Listeners {
  /** Returns how to stop. */
  add(listener: () => void): () => void;
  /** From now on changes are told. Before, nobody could have asked yet for what changed. */
  open(): void;
  tell(): void;
  close(): void;
}

/** `onError`: a listener has thrown; the others are told all the same. */
export function makeListeners(onError: (error: Error) => void): Listeners {
  /** Bounded by the parts of the process that use certificates. */
  const listeners = new Set<() => void>();
  let opened = false;
  return {
    add(listener) {
      // One function given twice is two listeners.
      const own = (): void => listener();
      listeners.add(own);
      return () => listeners.delete(own);
    },
    open() {
      opened = true;
    },
    tell() {
      if (!opened) return;
      for (const listener of [...listeners]) {
        try {
          listener();
        } catch (error) {
          onError(error as Error);
        }
      }
    },
    close() {
      opened = false;
      listeners.clear();
    },
  };
}

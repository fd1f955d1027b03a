// What a source says to its operator, written down.
import type { IdentityLog } from '../../../src/identity/deps.ts';

export function listeningLog(): IdentityLog & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    lines,
    info: (message) => lines.push(`info: ${message}`),
    warn: (message) => lines.push(`warn: ${message}`),
  };
}

/** Waits until `condition` holds; the test's own timeout ends what never does. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

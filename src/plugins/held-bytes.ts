// What plugins hold of bodies that they wait for, in the whole process: many clients with large bodies must not fill its memory.

const MAX_HELD = 256 * 1_048_576;
let held = 0;

/** One body under way. */
export class HeldBytes {
  #own = 0;

  /** False: there is no room for them, and nothing was taken. */
  take(bytes: number): boolean {
    if (held + bytes > MAX_HELD) return false;
    held += bytes;
    this.#own += bytes;
    return true;
  }

  /** Everything it took. */
  release(): void {
    held -= this.#own;
    this.#own = 0;
  }
}

// Errors about what is in a file do not know where it was.

/** @throws Error that names the file */
export function inFile<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw unusable(path, error);
  }
}

export function unusable(path: string, error: unknown): Error {
  return new Error(`${path} cannot be used: ${(error as Error).message}`, { cause: error });
}

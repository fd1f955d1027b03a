// The roots of other trust domains, from the files that the config names: added to what a source knows by itself.
import { readFile } from 'node:fs/promises';
import { type IdentityDeps, withDefaults } from './deps.ts';
import { inFile, unusable } from './in-file.ts';
import { makeListeners } from './listeners.ts';
import type { IdentitySource, TrustBundles } from './source.ts';
import { certificatesPem, readRoots } from './trust.ts';

/** `source` itself where there are no aliases. What the config says of a trust domain counts for more than what the source has heard. */
export function withAliases(source: IdentitySource, given: IdentityDeps): IdentitySource {
  const { trustDomain, aliases, log, watchFiles } = withDefaults(given);
  // Its own roots come from the source alone.
  const others = aliases.filter((alias) => alias.trustDomain !== trustDomain);
  if (others.length === 0) return source;
  const listeners = makeListeners((error) => log.warn(`a user of certificates has failed: ${error.message}`));
  const watch = watchFiles(() => void reload(), {
    onError: (error, directory) => log.warn(`${directory} cannot be watched, it is read every 5 s: ${error.message}`),
  });
  const stop = source.onChange(listeners.tell);
  let known: TrustBundles | null = null;
  let merged: { readonly of: TrustBundles; readonly and: TrustBundles; readonly all: TrustBundles } | null = null;
  let problem: string | null = null;
  let last: Promise<unknown> = Promise.resolve();

  async function read(): Promise<TrustBundles> {
    const entries = others.map(async ({ trustDomain, ca }) => {
      const text = await readFile(ca, 'utf8').catch((error: Error) => {
        throw unusable(ca, error);
      });
      return [trustDomain, inFile(ca, () => certificatesPem(readRoots(text)))] as const;
    });
    return new Map(await Promise.all(entries));
  }

  /** A file that cannot be read leaves everything as it was. */
  function reload(): Promise<void> {
    const reloading = last.then(async () => {
      try {
        known = await read();
        problem = null;
        listeners.tell();
      } catch (error) {
        problem = `${(error as Error).message}; the roots from before stay in use`;
        log.warn(problem);
      }
    });
    last = reloading;
    return reloading;
  }

  return {
    async need(ids) {
      if (known === null) {
        const since = Date.now();
        known = await read();
        const files = others.map(({ ca }) => ca);
        await watch.update(files, since);
      }
      await source.need(ids);
      listeners.open();
    },
    svid: source.svid,
    bundles() {
      const [of, and] = [source.bundles(), known ?? new Map()];
      if (merged === null || merged.of !== of || merged.and !== and)
        merged = { of, and, all: new Map([...of, ...and]) };
      return merged.all;
    },
    onChange: listeners.add,
    warnings: () => [...(problem === null ? [] : [problem]), ...source.warnings()],
    close() {
      stop();
      watch.close();
      listeners.close();
      source.close();
    },
  };
}

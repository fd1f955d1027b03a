// Where the config comes from.
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { ConfigInput } from '../config/define.ts';
import { type LoadOptions, loadConfig, resolveConfig } from '../config/load.ts';
import type { Provenance } from '../config/provenance.ts';
import { configFiles, isModule } from '../config/read-files.ts';
import { StoredProvenance } from '../config/stored-provenance.ts';
import { type Loaded, withConflicts } from './loaded.ts';
import { LoaderThread } from './loader.ts';

export type { Loaded } from './loaded.ts';

export interface ConfigSource {
  load(): Promise<Loaded>;
  /** The same before anybody knows whether it is wanted; null: that would disturb requests, or run code. */
  loadAhead?(): Promise<Loaded | null>;
  /** Nothing will be loaded any more. */
  close?(): Promise<void>;
}

/** Bytes from which reading takes long enough to be noticed by requests: about 20 ms. */
const LARGE = 32 * 1024;

/**
 * A file or directory, read anew with every load. The first load is the start, when there is nobody to disturb; later ones of
 * large configs are the work of a thread, except for configs that are code: what a module exports cannot leave its thread.
 */
export function fileSource(path: string, options: LoadOptions, thread = new LoaderThread()): ConfigSource {
  let started = false;
  let closed = false;
  const isForThread = async (): Promise<boolean> =>
    options.clock === undefined && (await isLarge(resolve(options.cwd ?? '', path)));
  return {
    async load() {
      const large = await isForThread();
      const loaded = large && started ? await thread.load(path, options) : null;
      started = true;
      if (loaded !== null) return loaded;
      const read = withConflicts(await loadConfig(path, options));
      return large ? packed(read) : read;
    },
    loadAhead: async () => (started && (await isForThread()) && !closed ? thread.load(path, options) : null),
    close() {
      closed = true;
      return thread.close();
    },
  };
}

/** Where the values of a large config came from is many times the size of the config, and hardly ever asked for. */
function packed({ provenance, ...read }: ReturnType<typeof withConflicts<Provenance>>): Loaded {
  if (read.config === null || provenance === null) return { ...read, provenance };
  return { ...read, provenance: new StoredProvenance([...provenance.pieces()], provenance.secretTexts, read.config) };
}

async function isLarge(path: string): Promise<boolean> {
  try {
    const files = await configFiles(path);
    if (files.some(isModule)) return false;
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    return sizes.reduce((sum, size) => sum + size, 0) >= LARGE;
  } catch {
    // Whoever reads it will say why it cannot be read.
    return false;
  }
}

/** A config in memory; files that it names are read anew with every load. */
export function inputSource(input: ConfigInput, options: LoadOptions): ConfigSource {
  return { load: async () => withConflicts(await resolveConfig(input, options)) };
}

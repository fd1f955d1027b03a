// The certificates of a CA service as a workload keeps them over a restart: one file for each id, with its key, and the roots.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { privateDirectory, readPrivate, writePrivate } from '../../private-files.ts';
import type { Svid } from '../source.ts';
import { parseSpiffeId } from '../spiffe-id.ts';

export interface KeptFiles {
  /** PEM: chain and key, as `save` wrote it; null: there is none. */
  load(id: string): Promise<string | null>;
  save(svid: Svid): Promise<void>;
  loadRoots(): Promise<string | null>;
  saveRoots(roots: string): Promise<void>;
  pathOf(id: string): string;
  readonly rootsPath: string;
}

/** @throws Error for a directory that cannot be made or that others may change */
export async function openKept(dir: string): Promise<KeptFiles> {
  await privateDirectory(dir, true);
  const rootsPath = join(dir, 'ca-roots.pem');
  const pathOf = (id: string): string => join(dir, `svid-${fileName(id)}.pem`);
  return {
    load: (id) => readPrivate(pathOf(id)),
    save: ({ id, cert, key }) => writePrivate(pathOf(id), cert + key),
    loadRoots: () => readPrivate(rootsPath),
    saveRoots: (content) => writePrivate(rootsPath, content),
    pathOf,
    rootsPath,
  };
}

/** Readable, and different for every id also where names of files are short or in one case only. */
function fileName(id: string): string {
  const path = parseSpiffeId(id)?.path ?? '';
  return `${path.replaceAll('/', '+').slice(0, 100)}-${createHash('sha256').update(id).digest('hex').slice(0, 12)}`;
}

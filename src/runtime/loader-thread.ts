// The thread that reads large configs while another one serves. It runs no code of a config and of no plugin.
import { type MessagePort, parentPort } from 'node:worker_threads';
import { type LoadOptions, loadConfig } from '../config/load.ts';
import { LoadMemory } from '../config/load-memory.ts';
import { withConflicts } from './loaded.ts';
import { LoadedPieces } from './loaded-pieces.ts';

export interface LoadOrder {
  readonly path: string;
  readonly options: Omit<LoadOptions, 'clock'>;
  /** Where the pieces go. They wait there until whoever serves has time for them. */
  readonly port: MessagePort;
}

/** `config`: its pieces are there, those of the provenance follow. Null: that is all. Else why it is not. */
export type LoadSignal = 'config' | { readonly failure: string } | null;

const pieces = new LoadedPieces();
/** Of one path: a thread reads the same one all its life. */
let memory = { path: '', of: new LoadMemory() };

parentPort?.on('message', async ({ path, options, port }: LoadOrder) => {
  let end: LoadSignal = null;
  try {
    if (memory.path !== path) memory = { path, of: new LoadMemory() };
    const read = withConflicts(await loadConfig(path, { ...options, leaves: true, memory: memory.of }));
    for (const piece of pieces.about(read)) port.postMessage(piece);
    parentPort?.postMessage('config' satisfies LoadSignal);
    for (const piece of pieces.provenance(read)) port.postMessage(piece, [piece.piece.data]);
  } catch (error) {
    end = { failure: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(end);
  port.close();
});

// The thread that reads large configs while another one serves. It runs no code of a config and of no plugin.
import { type MessagePort, parentPort } from 'node:worker_threads';
import { type LoadOptions, loadConfig } from '../config/load.ts';
import { withConflicts } from './loaded.ts';
import { piecesOf } from './loaded-pieces.ts';

export interface LoadOrder {
  readonly path: string;
  readonly options: Omit<LoadOptions, 'clock'>;
  /** Where the pieces go. They wait there until whoever serves has time for them. */
  readonly port: MessagePort;
}

/** Null: all pieces are there. Else why there is none. */
export type LoadEnd = { readonly failure: string } | null;

parentPort?.on('message', async ({ path, options, port }: LoadOrder) => {
  let end: LoadEnd = null;
  try {
    for (const piece of piecesOf(withConflicts(await loadConfig(path, options))))
      port.postMessage(piece, piece.kind === 'provenance' ? [piece.piece.data] : []);
  } catch (error) {
    end = { failure: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(end);
  port.close();
});

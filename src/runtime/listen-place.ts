// Where a listener gets the socket that it listens on: it opens one, or it is handed one that several processes share.
import type { ListenOptions, Server } from 'node:net';
import { BindError } from './bind-error.ts';
import type { ListenerSpec } from './listener-spec.ts';

export interface Place {
  /** What `net.Server.listen` is given: an address, or the handle of a socket. */
  readonly where: ListenOptions;
  /** It is listened on. */
  readonly listening?: () => void;
}

/** Rejects with the system's error when there is no such place. */
export type ListenPlace = (spec: ListenerSpec) => Promise<Place> | Place;

export const ownSocket: ListenPlace = ({ host, port }) => ({ where: { host, port } });

/** Rejects with a BindError that names listener, address and cause. */
export async function listenAt(server: Server, spec: ListenerSpec, place: ListenPlace): Promise<void> {
  try {
    const { where, listening } = await place(spec);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(where, () => {
        server.off('error', reject);
        listening?.();
        resolve();
      });
    });
  } catch (error) {
    throw new BindError(spec, error as Error);
  }
}

// The listening sockets of all workers: opened once by the supervisor, which never accepts from them, and handed to whoever serves.
//
// One socket for all, rather than one for each (SO_REUSEPORT): what waits to be accepted belongs to nobody, so a worker that dies takes
// only what it had accepted along, and clients that connect while none is left wait for the next one.
import { lookup } from 'node:dns/promises';
import * as net from 'node:net';
import { getSystemErrorName } from 'node:util';
import type { Problem } from '../../config/problem.ts';
import { BindError } from '../bind-error.ts';
import type { Address } from '../engine.ts';
import type { ListenerSpec } from '../listener-spec.ts';

/** A bound socket that this process does not poll. */
export interface SharedSocket {
  readonly address: Address;
  /** What a child process can be sent. */
  readonly handle: unknown;
  close(): void;
}

export type OpenSocket = (host: string, port: number) => Promise<SharedSocket>;

export interface PreparedPorts {
  readonly problems: readonly Problem[];
  commit(): void;
  abandon(): void;
}

type Sockets = ReadonlyMap<string, SharedSocket>;

export class Ports {
  readonly #open: OpenSocket;
  #specs: readonly ListenerSpec[] = [];
  /** By `idOf` of the listeners. */
  #held: Sockets = new Map();
  #next: Sockets | null = null;

  constructor(open: OpenSocket = openSocket) {
    this.#open = open;
  }

  async prepare(specs: readonly ListenerSpec[]): Promise<PreparedPorts> {
    const next = new Map<string, SharedSocket>();
    const fresh: SharedSocket[] = [];
    const problems: Problem[] = [];
    for (const spec of specs) {
      const id = idOf(spec);
      let socket = next.get(id) ?? this.#held.get(id);
      if (socket === undefined) {
        try {
          socket = await this.#open(spec.host, spec.port);
          fresh.push(socket);
        } catch (error) {
          problems.push(this.#problemOf(spec, error as NodeJS.ErrnoException));
          continue;
        }
      }
      next.set(id, socket);
    }
    this.#next = next;
    return {
      problems,
      commit: () => {
        for (const [id, socket] of this.#held) if (next.get(id) !== socket) socket.close();
        this.#held = next;
        this.#specs = specs;
        this.#next = null;
      },
      abandon: () => {
        this.#next = null;
        for (const socket of fresh) socket.close();
      },
    };
  }

  /** For a worker that prepares a listener, in force or about to be. @throws Error when there is none */
  handleOf(spec: Pick<ListenerSpec, 'key' | 'host' | 'port'>): unknown {
    const id = idOf(spec);
    const socket = this.#next?.get(id) ?? this.#held.get(id);
    if (socket === undefined) throw new Error(`no socket was opened for listener ${spec.key}`);
    return socket.handle;
  }

  addresses(): Readonly<Record<string, Address>> {
    return Object.fromEntries(
      this.#specs.flatMap((spec) => {
        const socket = this.#held.get(idOf(spec));
        return socket === undefined ? [] : [[spec.key, socket.address]];
      }),
    );
  }

  /** Connections are refused once the workers have closed theirs. */
  close(): void {
    for (const socket of this.#held.values()) socket.close();
    this.#held = new Map();
  }

  #problemOf(spec: ListenerSpec, error: NodeJS.ErrnoException): Problem {
    const ours = error.code === 'EADDRINUSE' && this.#specs.some(({ port }) => port === spec.port);
    const { message } = new BindError(spec, error);
    return {
      severity: 'error',
      place: spec.at,
      path: '',
      message: ours ? `${message}, or by another address of this one: with workers that takes a restart` : message,
    };
  }
}

/** Port 0 is another port for every listener. */
function idOf({ key, host, port }: Pick<ListenerSpec, 'key' | 'host' | 'port'>): string {
  return port === 0 ? `0 ${key}` : `${port} ${host}`;
}

/** What `node:cluster` makes such sockets with. It is not documented; nothing that is makes one that its maker does not accept from. */
const { _createServerHandle: createHandle } = net as unknown as {
  _createServerHandle(address: string, port: number, family: 4 | 6, fd: undefined, flags: number): Handle | number;
};

interface Handle {
  getsockname(into: { address?: string; port?: number }): number;
  close(): void;
}

/** Rejects with the system's error. A port that somebody has and does not listen on yet shows only when the first worker does. */
async function openSocket(host: string, port: number): Promise<SharedSocket> {
  const { address, family } = await lookup(host);
  const handle = createHandle(address, port, family as 4 | 6, undefined, 0);
  if (typeof handle === 'number') throw systemError(handle);
  const bound: { address?: string; port?: number } = {};
  const failed = handle.getsockname(bound);
  // A taken port shows as another one: the bind was put off.
  if (failed !== 0 || (port !== 0 && bound.port !== port)) {
    handle.close();
    throw failed === 0 ? Object.assign(new Error('EADDRINUSE'), { code: 'EADDRINUSE' }) : systemError(failed);
  }
  return {
    address: { host: bound.address as string, port: bound.port as number },
    handle,
    close: () => handle.close(),
  };
}

function systemError(number: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(number);
  return Object.assign(new Error(code), { code });
}

// A worker without a process: both ends of its channel, and a script that answers instead of it.
import { EventEmitter } from 'node:events';
import { Channel, type Handlers, type Wire } from '../../../../src/runtime/workers/channel.ts';
import type { Child } from '../../../../src/runtime/workers/worker-process.ts';

/** Messages arrive in a later turn, as between processes, and as copies. */
export class FakeWire extends EventEmitter implements Wire {
  other: FakeWire | null = null;

  send(message: unknown, handle: unknown, done: (error: Error | null) => void): void {
    const copy = JSON.parse(JSON.stringify(message)) as unknown;
    setImmediate(() => {
      this.other?.emit('message', copy, handle);
      done(null);
    });
  }
}

export function wires(): [FakeWire, FakeWire] {
  const [a, b] = [new FakeWire(), new FakeWire()];
  a.other = b;
  b.other = a;
  return [a, b];
}

export class FakeChild extends FakeWire implements Child {
  readonly pid: number | undefined;
  readonly killed: string[] = [];
  /** What it was asked and told, in order. */
  readonly heard: [string, unknown][] = [];
  /** Its own end of the channel. */
  readonly channel: Channel;
  #over = false;

  /** `script` answers in place of the defaults: everything is fine. */
  constructor(pid: number | undefined, script: Handlers = {}) {
    super();
    this.pid = pid;
    const end = new FakeWire();
    end.other = this;
    this.other = end;
    const defaults: Handlers = {
      begin: () => {},
      prepare: () => [],
      commit: () => {},
      abandon: () => {},
      pulse: () => ({ inFlight: 1 }),
      drain: () => {},
      fewest: () => {},
      connection: () => {},
      close: () => this.exit(0, null),
    };
    const all = Object.entries({ ...defaults, ...script }).map(([about, answer]) => [
      about,
      (argument: never, handle: never) => {
        this.heard.push([about, argument]);
        return answer(argument, handle);
      },
    ]);
    this.channel = new Channel(end, Object.fromEntries(all));
  }

  kill(signal: 'SIGKILL'): void {
    this.killed.push(signal);
    this.exit(null, signal);
  }

  exit(code: number | null, signal: string | null): void {
    if (this.#over) return;
    this.#over = true;
    this.other = null;
    this.channel.close();
    setImmediate(() => this.emit('exit', code, signal));
  }
}

/** Never answers. */
export const silent = (): Promise<never> => new Promise(() => {});

// One worker as its supervisor sees it: a child process, the channel to it, and whether it still answers.
import type { Config } from '../../config/model.ts';
import type { Problem } from '../../config/problem.ts';
import { Channel, type Handlers, type Wire } from './channel.ts';

/** What is used of Node's ChildProcess. */
export interface Child extends Wire {
  readonly pid?: number | undefined;
  kill(signal: 'SIGKILL'): unknown;
  on(event: 'exit', listener: (code: number | null, signal: string | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'message', listener: (message: unknown, handle: unknown) => void): unknown;
}

/** Starts the process of a worker, which connects back by its channel. */
export type Fork = (worker: number) => Child;

export interface End {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why it was killed, where its supervisor did so. */
  readonly killed: string | null;
}

/** What one says of itself whenever it is asked whether it is there. */
export interface Pulse {
  readonly inFlight: number;
}

/** How often each is asked, and how many times in a row it may not answer: 30 s of silence are a hang. */
const PULSE_MS = 5_000;
const MAX_MISSED = 6;
/** Compiling and connecting; the time that a plugin takes to load is part of it. */
const PREPARE_MS = 60_000;
const COMMIT_MS = 10_000;

export class WorkerProcess {
  readonly number: number;
  readonly pid: number | undefined;
  readonly channel: Channel;
  readonly ended: Promise<End>;
  readonly #child: Child;
  readonly #now: () => number;
  readonly #pulse: NodeJS.Timeout;
  #killed: string | null = null;
  #over = false;
  #missed = 0;
  #servingSince: number | null = null;
  #inFlight = 0;

  constructor(number: number, child: Child, handlers: Handlers, now: () => number, pulseMs = PULSE_MS) {
    this.number = number;
    this.pid = child.pid;
    this.#child = child;
    this.#now = now;
    this.channel = new Channel(child, handlers);
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: string | null): void => {
        if (this.#over) return;
        this.#over = true;
        clearInterval(this.#pulse);
        this.channel.close();
        resolve({ code, signal, killed: this.#killed });
      };
      child.on('exit', end);
      child.on('error', (error) => {
        // One that was never started; later ones tell of a signal or message that could not be delivered.
        if (child.pid !== undefined) return;
        this.#killed ??= `it could not be started: ${error.message}`;
        end(null, null);
      });
    });
    this.#pulse = setInterval(() => void this.#feelPulse(pulseMs), pulseMs).unref();
  }

  get serving(): boolean {
    return this.#servingSince !== null && !this.#over;
  }

  /** It has said that it is there when it was last asked; asked just now counts as well. */
  get answers(): boolean {
    return this.#missed <= 1 && !this.#over;
  }

  /** Milliseconds since its first config was in force. */
  get servedMs(): number {
    return this.#servingSince === null ? 0 : this.#now() - this.#servingSince;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** What the config lacks in this process. Rejects when the worker ends or does not answer in time; then it is to be killed. */
  prepare(config: Config): Promise<readonly Problem[]> {
    return this.channel.ask('prepare', config, PREPARE_MS);
  }

  async commit(): Promise<void> {
    await this.channel.ask('commit', undefined, COMMIT_MS);
    this.#servingSince ??= this.#now();
  }

  abandon(): Promise<void> {
    return this.channel.ask('abandon', undefined, COMMIT_MS);
  }

  kill(why: string): void {
    if (this.#over) return;
    this.#killed ??= why;
    this.#child.kill('SIGKILL');
  }

  /** Counted in questions, not by the clock: a supervisor that was stopped itself blames nobody. */
  async #feelPulse(pulseMs: number): Promise<void> {
    this.#missed++;
    if (this.#missed > MAX_MISSED) {
      this.kill(`it did not answer for ${(MAX_MISSED * pulseMs) / 1_000} s`);
      return;
    }
    try {
      const { inFlight } = await this.channel.ask<Pulse>('pulse');
      this.#missed = 0;
      this.#inFlight = inFlight;
    } catch {
      // It has ended, or it is about to.
    }
  }
}

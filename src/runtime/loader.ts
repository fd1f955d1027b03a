// Reads configs in a thread of its own, so that reading one holds up no request. The thread begins with the first load and ends when idle.
import * as module from 'node:module';
import { dirname } from 'node:path';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { LoadOptions } from '../config/load.ts';
import type { Problem } from '../config/problem.ts';
import { Slices } from '../slices.ts';
import type { Loaded } from './loaded.ts';
import { LoadedParts, type LoadedPiece, NOTHING_TAKEN, type TakenLists } from './loaded-pieces.ts';
import type { LoadOrder, LoadSignal } from './loader-thread.ts';
import { loaderUrl } from './loader-url.ts';

/** Milliseconds without a load after which the thread ends: edits come in bursts, and an idle thread holds 75 MiB and more. */
const IDLE_MS = 30_000;
/** MiB of the thread's young objects: more made reading no faster. */
const YOUNG_MIB = 16;

const NO_MODULE: ReadonlySet<string> = new Set(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND', 'ERR_INVALID_URL']);

export interface LoaderDeps {
  /** Default: the module of this package. */
  readonly start?: () => Worker;
  readonly idleMs?: number;
}

export class LoaderThread {
  readonly #start: () => Worker;
  readonly #idleMs: number;
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | undefined;
  #isMissing = false;
  /** One load at a time. */
  #over: Promise<unknown> = Promise.resolve();
  /** What the thread need not send again. */
  #taken: TakenLists = NOTHING_TAKEN;

  constructor({ start = startThread, idleMs = IDLE_MS }: LoaderDeps = {}) {
    this.#start = start;
    this.#idleMs = idleMs;
  }

  /**
   * The config, before the places of its values have all come: see `Loaded.whole`. Never rejects: a thread that ends before it is done is
   * a problem of the load. Null: no thread can be had, because its module is not there; so it is where somebody bundled this package
   * into a file of their own.
   */
  load(path: string, options: Omit<LoadOptions, 'clock'>): Promise<Loaded | null> {
    const next = this.#over.then(() => this.#load(path, options));
    this.#over = next.then((loaded) => loaded?.whole);
    return next;
  }

  async #load(path: string, options: Omit<LoadOptions, 'clock'>): Promise<Loaded | null> {
    clearTimeout(this.#idle);
    if (this.#isMissing) return null;
    const { port1: pieces, port2: port } = new MessageChannel();
    try {
      const worker = this.#running();
      const parts = new LoadedParts(this.#taken);
      const order: LoadOrder = { path, options: { ...options, env: { ...(options.env ?? process.env) } }, port };
      let end = Promise.resolve();
      const config = new Promise<void>((resolve) => {
        end = endOf(worker, resolve);
      });
      worker.postMessage(order, [port]);
      await Promise.race([config, end]);
      await takeIn(pieces, parts);
      this.#taken = parts.taken;
      return { ...parts.loaded(), whole: this.#rest(end, pieces, parts) };
    } catch (error) {
      this.#idleSoon(pieces);
      await this.close();
      this.#isMissing = NO_MODULE.has(String((error as NodeJS.ErrnoException).code));
      return this.#isMissing ? null : { config: null, problems: [faultOf(error)], files: [], provenance: null };
    }
  }

  /** The rest of a load. Never rejects either. */
  async #rest(end: Promise<void>, pieces: MessagePort, parts: LoadedParts): Promise<Problem | null> {
    try {
      await end;
      await takeIn(pieces, parts);
      return null;
    } catch (error) {
      await this.close();
      return faultOf(error);
    } finally {
      this.#idleSoon(pieces);
    }
  }

  #idleSoon(pieces: MessagePort): void {
    pieces.close();
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.close(), this.#idleMs).unref();
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    this.#forget();
    await worker?.terminate();
  }

  #forget(): void {
    this.#worker = null;
    this.#taken = NOTHING_TAKEN;
  }

  #running(): Worker {
    if (this.#worker !== null) return this.#worker;
    const worker = this.#start();
    this.#worker = worker;
    // Idle, it keeps no process alive; and one that ends then is no fault of a load.
    worker.unref();
    const forget = (): void => {
      if (this.#worker === worker) this.#forget();
    };
    worker.on('error', forget).on('exit', forget);
    return worker;
  }
}

function startThread(): Worker {
  // What the process has compiled already the thread need not compile again: half of its start. (Node 20 keeps none.)
  const compiled = module.getCompileCacheDir?.();
  const env = compiled === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: dirname(compiled) };
  return new Worker(loaderUrl(), {
    name: 'selvedge loader',
    env,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
  });
}

function faultOf(error: unknown): Problem {
  const message = `the thread that reads the config failed: ${(error as Error).message}; the next reload starts another one`;
  return { severity: 'error', place: null, path: '', message };
}

/** Resolves when the load is over, and rejects where it failed, or the thread ended without a word. */
function endOf(worker: Worker, onConfig: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (act: () => void): void => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit).unref();
      act();
    };
    const onMessage = (signal: LoadSignal): void => {
      if (signal === 'config') onConfig();
      else over(signal === null ? resolve : () => reject(new Error(signal.failure)));
    };
    const onError = (error: Error): void => over(() => reject(error));
    const onExit = (code: number): void => over(() => reject(new Error(`it ended with code ${code}`)));
    worker.on('message', onMessage).on('error', onError).on('exit', onExit).ref();
  });
}

/** Every piece that is there: each is made an object only as it is taken. */
async function takeIn(pieces: MessagePort, parts: LoadedParts): Promise<void> {
  const slices = new Slices();
  for (let next = receiveMessageOnPort(pieces); next !== undefined; next = receiveMessageOnPort(pieces)) {
    parts.add(next.message as LoadedPiece);
    if (slices.over) await slices.rest();
  }
}

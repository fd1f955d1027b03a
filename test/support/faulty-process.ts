// A faulty upstream in a process of its own, so that it can be killed; told what to do over IPC, its deliveries kept in a file.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../e2e/support/ports.ts';
import type { Behaviour, UpstreamOptions } from './behaviour.ts';
import { Deliveries, recorder } from './deliveries.ts';
import { FaultyUpstream, type Upstream } from './faulty-upstream.ts';

export interface UpstreamProcess extends Upstream {
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Another process on the same port, which behaves as the first did at its start. */
  restart(): Promise<void>;
}

export async function spawnFaultyUpstream(options: UpstreamOptions = {}): Promise<UpstreamProcess> {
  const port = options.port ?? (await freePort());
  const dir = mkdtempSync(join(tmpdir(), 'faulty-upstream-'));
  const file = join(dir, 'deliveries');
  const start = (): Promise<ChildProcess> => spawnOne(file, { ...options, port });
  let child = await start();
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return {
    port,
    behave: (behaviour) => tell(child, behaviour),
    deliveries: () => Deliveries.read(file),
    kill,
    async restart() {
      await kill();
      child = await start();
    },
    async close() {
      await kill();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function spawnOne(file: string, options: UpstreamOptions): Promise<ChildProcess> {
  const child = spawn(process.execPath, [import.meta.filename, file, JSON.stringify(options)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  await answered(child);
  return child;
}

async function tell(child: ChildProcess, behaviour: Behaviour): Promise<void> {
  const done = answered(child);
  child.send(behaviour);
  await done;
}

async function answered(child: ChildProcess): Promise<void> {
  const ended = new AbortController();
  try {
    await Promise.race([
      once(child, 'message', ended),
      once(child, 'exit', ended).then(() => {
        throw new Error('the upstream ended instead of answering');
      }),
    ]);
  } finally {
    ended.abort();
  }
}

async function serve(
  file: string,
  { port, closeIdleMs = 0, behaviour = { mode: 'ok' } }: UpstreamOptions,
): Promise<void> {
  const upstream = new FaultyUpstream(port as number, closeIdleMs, recorder(file));
  // Its parent is gone: nobody else would end it.
  process.on('disconnect', () => process.exit());
  process.on('message', (next: Behaviour) => void upstream.behave(next).then(() => process.send?.('done')));
  await upstream.behave(behaviour);
  process.send?.('up');
}

if (process.argv[1] === import.meta.filename)
  await serve(process.argv[2], JSON.parse(process.argv[3]) as UpstreamOptions);

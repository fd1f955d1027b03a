// Two machines in small: network namespaces with a cable between them, gone with the test. Nothing of the real network is touched.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Test } from 'tap';

/** The reason why namespaces cannot be made here; false: they can. CI installs the tools, so there a missing one is a failure. */
export function noNamespaces(...tools: string[]): string | false {
  if (process.platform !== 'linux') return 'network namespaces are Linux';
  if (process.getuid?.() !== 0) return 'making network namespaces needs root';
  for (const tool of ['ip', ...tools]) {
    if (spawnSync(tool, [tool === 'ip' ? '-V' : '--version'], { stdio: 'ignore' }).status !== 0) {
      if (process.env.CI === 'true') throw new Error(`${tool} is not installed`);
      return `${tool} is not installed`;
    }
  }
  const name = newName();
  if (spawnSync('ip', ['netns', 'add', name], { stdio: 'ignore' }).status !== 0)
    return 'network namespaces cannot be made here';
  spawnSync('ip', ['netns', 'del', name]);
  return false;
}

function newName(): string {
  return `slv${randomBytes(4).toString('hex')}`;
}

export class Namespace {
  readonly name = newName();
  readonly #t: Test;

  constructor(t: Test) {
    this.#t = t;
    execFileSync('ip', ['netns', 'add', this.name]);
    t.teardown(() => execFileSync('ip', ['netns', 'del', this.name]));
    this.run('ip', 'link', 'set', 'lo', 'up');
  }

  /** Runs a program to its end in here; its output. */
  run(command: string, ...args: string[]): string {
    const { status, stdout, stderr } = this.attempt(command, ...args);
    if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  attempt(command: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync('ip', ['netns', 'exec', this.name, command, ...args], { encoding: 'utf8', timeout: 30_000 });
  }

  /** Starts a program in here; resolves once it has said `until`. Killed with the test. */
  async start(until: string, command: string, ...args: string[]): Promise<ChildProcess> {
    const child = spawn('ip', ['netns', 'exec', this.name, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    // `ip netns exec` becomes the program: its id is the program's.
    this.#t.teardown(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    let said = '';
    await new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          said += text;
          if (said.includes(until)) resolve();
        });
      }
      child.once('exit', () => reject(new Error(`ended without saying "${until}": ${said}`)));
    });
    return child;
  }
}

/** `10.77.0.1` and `fd77::1` in one, `10.77.0.2` and `fd77::2` in the other. */
export function twoMachines(t: Test): { readonly here: Namespace; readonly there: Namespace } {
  const here = new Namespace(t);
  const there = new Namespace(t);
  here.run('ip', 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable', 'netns', there.name);
  for (const [space, last] of [
    [here, '1'],
    [there, '2'],
  ] as const) {
    space.run('ip', 'address', 'add', `10.77.0.${last}/24`, 'dev', 'cable');
    space.run('ip', 'address', 'add', `fd77::${last}/64`, 'dev', 'cable', 'nodad');
    space.run('ip', 'link', 'set', 'cable', 'up');
  }
  return { here, there };
}

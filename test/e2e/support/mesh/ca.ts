// A CA service as an operator runs it: a process of its own, that can be killed, started again, and taken through a change of its root.
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SelvedgeProcess } from '../../../cli/support/process.ts';
import { freePort } from '../ports.ts';
import type { Owner } from '../process.ts';

const BIN = new URL('../../../../bin/selvedge.js', import.meta.url).pathname;
const run = promisify(execFile);

/** A root that was made so long ago issues; certificates begin a minute before they are made. */
const ROOT_WAITS_MS = 86_400_000 - 60_000;

/** A line of the audit log. */
export interface Issued {
  readonly atMs: number;
  /** Without the trust domain: `service/orders`. */
  readonly name: string;
  readonly serial: string;
}

export class CaProcess {
  static readonly trustDomain = 'shop.internal';
  readonly url: string;
  /** Path of the roots. */
  readonly trust: string;
  starts = 0;
  readonly #owner: Owner;
  readonly #dir: string;
  readonly #audit: string;
  readonly #args: readonly string[];
  #process: SelvedgeProcess | null = null;

  private constructor(owner: Owner, dir: string, port: number, lifeSeconds: number) {
    this.#owner = owner;
    this.#dir = join(dir, 'ca');
    this.#audit = join(dir, 'audit.log');
    this.trust = join(this.#dir, 'ca.crt');
    this.url = `https://127.0.0.1:${port}`;
    const where = ['--dir', this.#dir, '--listen', `127.0.0.1:${port}`, '--san', '127.0.0.1'];
    this.#args = ['ca', 'serve', ...where, '--life', `${lifeSeconds}s`, '--audit', this.#audit];
  }

  /** `selvedge ca init`; serves nothing yet. */
  static async make(owner: Owner, dir: string, lifeSeconds: number): Promise<CaProcess> {
    const ca = new CaProcess(owner, dir, await freePort(), lifeSeconds);
    await ca.#command({}, 'init', '--trust-domain', CaProcess.trustDomain);
    return ca;
  }

  async start(): Promise<void> {
    this.#process = new SelvedgeProcess(this.#owner, this.#args);
    await this.#process.says(/^the CA service listens on/);
    this.starts += 1;
  }

  async kill(): Promise<void> {
    this.#process?.child.kill('SIGKILL');
    await this.#process?.ended;
  }

  async token(name: string): Promise<string> {
    return (await this.#command({}, 'issue', '--id', name)).trim();
  }

  /** `selvedge ca roll`, as if a day had gone by since but for these seconds: when they are over the new root issues. */
  async roll(secondsLeft: number): Promise<void> {
    const backMs = ROOT_WAITS_MS - secondsLeft * 1_000;
    const earlier = `const now=Date.now;Date.now=()=>now()-${backMs}`;
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(earlier)}`;
    await this.#command({ NODE_OPTIONS }, 'roll');
  }

  /** As if the time for which the old root stays had gone by: it leaves when the service next looks at its directory. */
  retireOldRoot(): void {
    const path = join(this.#dir, 'bundle.pem');
    const bundle = readFileSync(path, 'utf8');
    const aged = bundle.replace(/^# until .*$/m, `# until ${new Date().toISOString()}`);
    if (aged === bundle) throw new Error('no root is on its way out');
    writeFileSync(`${path}.aged`, aged, { mode: 0o600 });
    chmodSync(`${path}.aged`, 0o600);
    renameSync(`${path}.aged`, path);
  }

  /** Those that it hands out, oldest first. */
  get roots(): readonly X509Certificate[] {
    const text = readFileSync(this.trust, 'utf8');
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    return blocks.map((block) => new X509Certificate(block));
  }

  get issued(): readonly Issued[] {
    if (!existsSync(this.#audit)) return [];
    const lines = readFileSync(this.#audit, 'utf8').split('\n').slice(0, -1);
    const entries = lines.map((line) => JSON.parse(line) as Record<string, string>);
    return entries
      .filter(({ audit }) => audit === 'issue' || audit === 'renew')
      .map(({ time, id, serial }) => ({ atMs: Date.parse(time), name: id.split('/').slice(3).join('/'), serial }));
  }

  async #command(env: NodeJS.ProcessEnv, action: string, ...args: string[]): Promise<string> {
    const words = [BIN, 'ca', action, ...args, '--dir', this.#dir];
    const { stdout } = await run(process.execPath, words, { env: { ...process.env, ...env }, timeout: 30_000 });
    return stdout;
  }
}

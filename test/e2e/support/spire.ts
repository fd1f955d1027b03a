// A SPIRE server and its agent on loopback, with everything they write in one folder; gone with the test.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { freePort } from './ports.ts';
import { eventually } from './sockets.ts';

/** What it was written against. */
const VERSION = 'v1.13.3';

function program(name: string): string {
  const { SPIRE_BIN: folder } = process.env;
  return folder === undefined ? name : join(folder, name);
}

async function run(name: string, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program(name), args, { timeout: 10_000 });
  return stdout;
}

/** The reason why SPIRE cannot run here, and how that changes; false: it can. */
export function noSpire(): string | false {
  if (process.getuid === undefined) return 'unix sockets and user ids are needed';
  const missing = ['spire-server', 'spire-agent'].filter(
    (name) => spawnSync(program(name), ['--version'], { stdio: 'ignore' }).status !== 0,
  );
  if (missing.length === 0) return false;
  const modules = missing.map((name) => `github.com/spiffe/spire/cmd/${name}`);
  const tools = modules.map((module) => `${module}@${VERSION}`);
  return (
    `${missing.join(' and ')} not found in $SPIRE_BIN or on PATH. With Go and a C compiler, in an empty folder: ` +
    `go mod init x && go get -tool ${tools.join(' ')} && GOBIN=DIR go install ${modules.join(' ')}`
  );
}

export class Spire {
  /** Of the Workload API. */
  readonly socket: string;
  readonly #t: Test;
  readonly #dir: string;
  readonly #api: string;
  #agent: Daemon | null = null;

  private constructor(t: Test) {
    this.#t = t;
    // The path of a unix socket has 107 bytes at most: not in the folder of the test.
    this.#dir = mkdtempSync(join(tmpdir(), 'selvedge-spire-'));
    this.socket = join(this.#dir, 'agent.sock');
    this.#api = join(this.#dir, 'server.sock');
    t.teardown(() => rmSync(this.#dir, { recursive: true, force: true }));
  }

  /** With these ids registered for every process of this user. `ids`: seconds that a certificate is valid once it has been made. */
  static async start(t: Test, trustDomain: string, ids: Readonly<Record<string, number>>): Promise<Spire> {
    const spire = new Spire(t);
    const dir = spire.#dir;
    const port = await freePort();
    const file = join(dir, 'server.conf');
    writeFileSync(
      file,
      `server {
         bind_address = "127.0.0.1" bind_port = "${port}" socket_path = "${spire.#api}"
         trust_domain = "${trustDomain}" data_dir = "${dir}/server"
         experimental { cache_reload_interval = "500ms" }
       }
       plugins {
         DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${dir}/entries.sqlite3" } }
         KeyManager "disk" { plugin_data { keys_path = "${dir}/server-keys.json" } }
         NodeAttestor "join_token" { plugin_data {} }
       }`,
    );
    const server = new Daemon(t, 'spire-server', ['run', '-config', file]);
    await server.says('Starting Server APIs');
    await eventually(() => existsSync(spire.#api), 'the SPIRE server serves', 10_000);
    writeFileSync(join(dir, 'roots.pem'), await spire.#server('bundle', 'show'));
    writeFileSync(
      join(dir, 'agent.conf'),
      `agent {
         server_address = "127.0.0.1" server_port = "${port}" socket_path = "${spire.socket}"
         trust_domain = "${trustDomain}" trust_bundle_path = "${dir}/roots.pem" data_dir = "${dir}/agent"
         experimental { sync_interval = "500ms" }
       }
       plugins {
         KeyManager "disk" { plugin_data { directory = "${dir}/agent" } }
         NodeAttestor "join_token" { plugin_data {} }
         WorkloadAttestor "unix" { plugin_data {} }
       }`,
    );
    const node = `spiffe://${trustDomain}/node`;
    const token = /Token: (\S+)/.exec(await spire.#server('token', 'generate', '-spiffeID', node))?.[1] ?? '';
    const selector = `unix:uid:${process.getuid?.()}`;
    for (const [id, seconds] of Object.entries(ids))
      await spire.#server(
        ...['entry', 'create', '-parentID', node, '-selector', selector, '-spiffeID', id],
        ...['-x509SVIDTTL', `${seconds}`],
      );
    await spire.startAgent('-joinToken', token);
    return spire;
  }

  /** Another start knows its server from the last one. */
  async startAgent(...args: string[]): Promise<void> {
    const agent = new Daemon(this.#t, 'spire-agent', ['run', '-config', join(this.#dir, 'agent.conf'), ...args]);
    this.#agent = agent;
    await agent.says('Starting Workload and SDS APIs');
  }

  async stopAgent(signal: NodeJS.Signals): Promise<void> {
    await this.#agent?.stop(signal);
  }

  /** What any other process of this user gets. */
  async fetch(id: string): Promise<{ readonly cert: string; readonly key: string }> {
    const dir = mkdtempSync(join(this.#dir, 'fetched-'));
    await run('spire-agent', ['api', 'fetch', 'x509', '-socketPath', this.socket, '-write', dir]);
    const read = (name: string): string => readFileSync(join(dir, name), 'utf8');
    const found = readdirSync(dir).find(
      (name) => /^svid\..*\.pem$/.test(name) && new X509Certificate(read(name)).subjectAltName === `URI:${id}`,
    );
    if (found === undefined) throw new Error(`the agent sends no certificate for ${id}`);
    return { cert: read(found), key: read(found.replace('.pem', '.key')) };
  }

  /** From now on the agent gets a second root beside the one that issues; its name. */
  async prepareRoot(): Promise<string> {
    const { prepared_authority: next } = await this.#authority('prepare');
    return next.authority_id;
  }

  /** The prepared root issues, and everything below the old one is replaced; resolves once the agent has done so. Returns the old one's name. */
  async activateRoot(next: string): Promise<string> {
    await this.#authority('activate', '-authorityID', next);
    const { old } = await this.#authority('show');
    await this.#authority('taint', '-authorityID', old.authority_id);
    // An agent whose own certificate is below a root that is gone is one no more.
    await this.#agent?.says('Successfully rotated agent SVID');
    return old.authority_id;
  }

  async revokeRoot(old: string): Promise<void> {
    await this.#authority('revoke', '-authorityID', old);
  }

  async #authority(action: string, ...args: string[]) {
    return JSON.parse(await this.#server('localauthority', 'x509', action, ...args, '-output', 'json'));
  }

  /** A command of the server's own; its output. */
  #server(...args: string[]): Promise<string> {
    return run('spire-server', [...args, '-socketPath', this.#api]);
  }
}

class Daemon {
  readonly #name: string;
  readonly #child: ChildProcess;
  #log = '';
  #ended = false;

  constructor(t: Test, name: string, args: readonly string[]) {
    this.#name = name;
    this.#child = spawn(program(name), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.once('exit', () => {
      this.#ended = true;
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log += text;
      });
    }
    t.teardown(() => this.stop('SIGKILL'));
  }

  async says(text: string): Promise<void> {
    await eventually(() => this.#ended || this.#log.includes(text), `${this.#name} says "${text}"`, 10_000);
    if (this.#ended) throw new Error(`${this.#name} ended: ${this.#log}`);
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    if (this.#ended) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exit;
  }
}

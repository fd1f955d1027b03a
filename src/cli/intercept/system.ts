// What interception asks of the machine that it runs on: its tools, its sockets, its users, its rights.
import { spawn } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';

export interface ToolResult {
  /** Null: there is no such program. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface System {
  readonly platform: NodeJS.Platform;
  /** False where there is no IPv6 to have rules about. */
  readonly hasIpv6: boolean;
  /** CAP_NET_ADMIN, which root has. */
  mayChangeRules(): boolean;
  /** Without a shell; `stdin` is all that it reads. */
  tool(file: string, args: readonly string[], stdin?: string): Promise<ToolResult>;
  /** IP addresses of a name; none: it is not known. */
  resolve(name: string): Promise<readonly string[]>;
  /** User ids of those who listen on a TCP port of this machine, each once. */
  listeners(port: number): readonly number[];
}

/** Bit of CapEff, linux/capability.h. */
const CAP_NET_ADMIN = 12n;

/** TCP_LISTEN, net/tcp_states.h. */
const LISTEN = '0A';

const TOOL_TIMEOUT_MS = 30_000;

/** Where such tools live; not in everybody's PATH. */
const PLACES = '/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin';

export function thisMachine(): System {
  return {
    platform: process.platform,
    hasIpv6: read('/proc/net/if_inet6') !== '',
    mayChangeRules: () => {
      const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status'));
      return effective !== null && ((BigInt(`0x${effective[1]}`) >> CAP_NET_ADMIN) & 1n) === 1n;
    },
    tool,
    resolve: async (name) => {
      const found = await lookup(name, { all: true }).catch(() => []);
      return [...new Set(found.map(({ address }) => address))];
    },
    listeners: (port) => listenersOf(read('/proc/net/tcp') + read('/proc/net/tcp6'), port),
  };
}

/** @param table - /proc/net/tcp, proc_net_tcp(5): local address, remote address, state, …, the user id in the eighth place */
export function listenersOf(table: string, port: number): readonly number[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  const found = rows.filter(([, local, , state]) => state === LISTEN && local.endsWith(suffix));
  return [...new Set(found.map((row) => Number(row[7])))];
}

/** Empty where it cannot be read. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function tool(file: string, args: readonly string[], stdin = ''): Promise<ToolResult> {
  return new Promise((resolve) => {
    const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:${PLACES}` };
    const child = spawn(file, args, { env, stdio: ['pipe', 'pipe', 'pipe'], timeout: TOOL_TIMEOUT_MS });
    const out = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out.stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      out.stderr += chunk;
    });
    child.on('error', () => resolve({ code: null, ...out }));
    child.on('close', (code, signal) => {
      if (signal !== null) out.stderr += `${file} was ended by ${signal}`;
      resolve({ code: code ?? 1, ...out });
    });
    // A tool that ends early does not read on.
    child.stdin.on('error', () => undefined).end(stdin);
  });
}

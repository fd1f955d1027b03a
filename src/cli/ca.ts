// `selvedge ca`: the CA of a mesh that has several machines: made, served, asked for join tokens, its root replaced.
import { resolve } from 'node:path';
import { didYouMean } from '../config/suggest.ts';
import { type Command, type CommandInput, EXIT, type Io, UsageError } from './command.ts';

type Values = CommandInput['values'];

interface Action {
  /** Besides `dir`. */
  readonly options: readonly string[];
  /** `dir` is absolute. Resolves with the exit code; an Error that it throws is told to the user. */
  run(dir: string, values: Values, io: Io): Promise<number>;
  /** Exit code of an Error. */
  readonly failed: number;
}

const ACTIONS: Readonly<Record<string, Action>> = {
  init: {
    options: ['trust-domain'],
    failed: EXIT.checkFailed,
    run: async (...given) => (await import('./ca-init.ts')).initCa(...given),
  },
  serve: {
    options: ['listen', 'san', 'life', 'audit'],
    failed: EXIT.couldNotStart,
    run: async (...given) => (await import('./ca-serve.ts')).serveCa(...given),
  },
  issue: {
    options: ['id', 'ttl', 'svid', 'out', 'force'],
    failed: EXIT.checkFailed,
    run: async (...given) => (await import('./ca-issue.ts')).issueFromCa(...given),
  },
  revoke: {
    options: ['id'],
    failed: EXIT.checkFailed,
    run: async (...given) => (await import('./ca-issue.ts')).revokeInCa(...given),
  },
  roll: {
    options: [],
    failed: EXIT.checkFailed,
    run: async (...given) => (await import('./ca-init.ts')).rollCa(...given),
  },
};

export const command: Command = {
  name: 'ca',
  summary: 'Make and run the CA of a mesh on several machines, and let workloads join it',
  help: `selvedge ca init --trust-domain NAME [--dir DIR]
selvedge ca serve [--listen HOST:PORT] [--san NAME]… [--life TIME] [--audit FILE] [--dir DIR]
selvedge ca issue --id ID [--ttl TIME] [--dir DIR]
selvedge ca issue --id ID --svid [--out DIR] [--ttl TIME] [--force] [--dir DIR]
selvedge ca revoke --id ID [--dir DIR]
selvedge ca roll [--dir DIR]

  init                  make root and intermediate; nothing that is there is overwritten
  serve                 give certificates to workloads that join or renew, over HTTPS, until SIGTERM
  issue                 print a join token: good once, for this identity alone
  issue --svid          write a certificate with its key to files instead, for mesh.identity.files
  revoke                no certificate that this identity has renews any more; workloads join again, by new tokens
  roll                  begin to replace the root: both are trusted from now on, the new one issues after a day

  --dir DIR             where the CA lies; default .selvedge/ca
  --trust-domain NAME   shop.internal
  --listen HOST:PORT    default 0.0.0.0:9443
  --san NAME            name or address that clients know the service by; may be repeated; default the name of this
                        machine, localhost, 127.0.0.1 and ::1
  --life TIME           of the certificates that workloads get; 10s to 24h, default 24h
  --audit FILE          append a JSON line for each certificate and refusal; default stdout
  --id ID               service/orders, gateway/public, or a whole SPIFFE id of the trust domain
  --ttl TIME            until when a token can be used: 1m to 30d, default 1h; life of a certificate: 1m to 24h, default 24h
  --out DIR             where tls.crt, tls.key and ca.crt go; default the current directory
  --force               overwrite them

Only the token itself is on stdout: TOKEN=$(selvedge ca issue --id service/orders)

Exit codes: 0 good, or stopped by a signal, 1 refused or failed, 2 wrong usage, 3 the service could not start.`,
  options: {
    dir: { type: 'string' },
    'trust-domain': { type: 'string' },
    listen: { type: 'string' },
    san: { type: 'string', multiple: true },
    life: { type: 'string' },
    audit: { type: 'string' },
    id: { type: 'string' },
    ttl: { type: 'string' },
    svid: { type: 'boolean' },
    out: { type: 'string' },
    force: { type: 'boolean' },
  },
  async run({ values, positionals }, io) {
    const names = Object.keys(ACTIONS);
    const [name, extra] = positionals;
    if (name === undefined) throw new UsageError(`ca needs one of ${names.join(', ')}`);
    if (!Object.hasOwn(ACTIONS, name))
      throw new UsageError(`ca has no "${name}"${didYouMean(name, names)}; it has: ${names.join(', ')}`);
    if (extra !== undefined) throw new UsageError(`ca ${name} takes no argument "${extra}"`);
    const action = ACTIONS[name];
    const foreign = Object.keys(values).find((option) => option !== 'dir' && !action.options.includes(option));
    if (foreign !== undefined) throw new UsageError(`ca ${name} has no option --${foreign}`);
    try {
      return await action.run(resolve(io.cwd, String(values.dir ?? '.selvedge/ca')), values, io);
    } catch (error) {
      if (error instanceof UsageError) throw error;
      io.stderr.write(`selvedge ca ${name}: ${(error as Error).message}\n`);
      return action.failed;
    }
  },
};

// From the words on a command line to one command: parses its options, prints help, turns mistakes into messages and exit codes.
import { parseArgs } from 'node:util';
import { didYouMean } from '../config/suggest.ts';
import { version } from '../runtime/version.ts';
import { type Command, EXIT, type Io, UsageError } from './command.ts';

/** Name → its module, imported only when it is asked for. */
export type CommandTable = Readonly<Record<string, () => Promise<{ readonly command: Command }>>>;

/** Resolves with the exit code; rejects only for defects of Selvedge itself. */
export async function runCommandLine(table: CommandTable, args: readonly string[], io: Io): Promise<number> {
  const [name, ...own] = args;
  let command: Command | null = null;
  try {
    if (name === undefined) {
      io.stderr.write(await overview(table));
      return EXIT.usage;
    }
    if (name === '--version' || name === '-v') return print(io, `${version()}\n`);
    const asked = name === 'help' ? own[0] : name;
    if (asked === undefined || asked === '--help' || asked === '-h') return print(io, await overview(table));
    command = await find(table, asked);
    if (name === 'help') return print(io, `${command.help}\n`);
    return await runCommand(command, own, io);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    io.stderr.write(`selvedge${command === null ? '' : ` ${command.name}`}: ${error.message}\n`);
    io.stderr.write(`see: selvedge ${command === null ? '' : `${command.name} `}--help\n`);
    return EXIT.usage;
  }
}

async function find(table: CommandTable, name: string): Promise<Command> {
  if (Object.hasOwn(table, name)) return (await table[name]()).command;
  if (name.startsWith('-')) throw new UsageError(`unknown option "${name}"; options stand behind the command`);
  throw new UsageError(`unknown command "${name}"${didYouMean(name, Object.keys(table))}`);
}

async function runCommand(command: Command, args: readonly string[], io: Io): Promise<number> {
  const end = args.indexOf('--');
  const own = end === -1 ? args : args.slice(0, end);
  const options = { ...command.options, help: { type: 'boolean', short: 'h' } } as const;
  const { values, positionals } = parse(own, options);
  if (values.help === true) return print(io, `${command.help}\n`);
  return command.run({ values, positionals, rest: end === -1 ? [] : args.slice(end + 1) }, io);
}

function parse(args: readonly string[], options: Command['options']) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code?.startsWith('ERR_PARSE_ARGS')) throw error;
    const unknown = /^Unknown option '(--?)([^']+)'/.exec(message);
    if (unknown === null) throw new UsageError(message.split('. ', 1)[0]);
    const [, dashes, name] = unknown;
    const hint = dashes === '--' ? didYouMean(name, Object.keys(options)).replace('"', '"--') : '';
    throw new UsageError(`unknown option "${dashes}${name}"${hint}`);
  }
}

async function overview(table: CommandTable): Promise<string> {
  const commands = await Promise.all(Object.values(table).map(async (load) => (await load()).command));
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `Selvedge: one Fastify data plane as API gateway at the edge and as internal hops of the mesh.

selvedge COMMAND [OPTIONS]

${lines.join('\n')}

selvedge COMMAND --help says more about one. selvedge --version prints the version.
`;
}

function print(io: Io, text: string): number {
  io.stdout.write(text);
  return EXIT.good;
}

// `selvedge egress suggest`: reads what went out of the mesh from access logs, and writes the list that allows it and nothing else.
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { formatProblem } from '../config/problem.ts';
import { didYouMean } from '../config/suggest.ts';
import { type Command, EXIT, type Io, UsageError } from './command.ts';
import { egressYaml, Observed, type Rule } from './egress-list.ts';

const ACTIONS = ['suggest'];

export const command: Command = egressCommand(process.stdin);

/** @param stdin - what `--log -` reads */
export function egressCommand(stdin: Readable): Command {
  return {
    name: 'egress',
    summary: 'Write the list of what may leave the mesh from what does',
    help: `selvedge egress suggest --log FILE|-… [-c PATH]

  --log FILE            access log, one JSON object a line; - reads stdin; may be given several times
  -c, --config PATH     config file or directory: callers that it does not have are left out

Prints the "egress" key that allows the calls of the log and nothing else, each rule with the number of calls that it is
for. Run hops with "egress: { audit: true }" for as long as it takes to see every call, then replace the key by what this
prints. Calls that were denied are not in the list, and neither are tunnels that carried something else than TLS to
their host: what is left out is said on stderr. A log that is sampled (telemetry.accessLog.sample) shows a part of the calls.

Exit codes: 0 good, 1 the log says nothing of calls beyond the mesh, or the config has errors, 2 wrong usage,
3 a log cannot be read.`,
    options: {
      config: { type: 'string', short: 'c' },
      log: { type: 'string', multiple: true },
    },
    async run(input, io) {
      const [action, extra] = input.positionals;
      if (action === undefined) throw new UsageError('egress needs "suggest"');
      if (!ACTIONS.includes(action)) throw new UsageError(`egress has no "${action}"${didYouMean(action, ACTIONS)}`);
      if (extra !== undefined)
        throw new UsageError(`egress suggest takes no argument "${extra}"; a log is given by --log`);
      const logs = (input.values.log as readonly string[] | undefined) ?? [];
      if (logs.length === 0) throw new UsageError('say which log: --log access.ndjson, or --log - for stdin');
      const path = input.values.config as string | undefined;
      const config = path === undefined ? null : await readConfig(path, io);
      if (config === 'broken') return EXIT.checkFailed;
      const observed = new Observed();
      for (const log of logs) {
        try {
          await read(log === '-' ? stdin : createReadStream(resolve(io.cwd, log)), observed);
        } catch (error) {
          io.stderr.write(`selvedge egress: cannot read ${log}: ${(error as Error).message}\n`);
          return EXIT.couldNotStart;
        }
      }
      const { rules, left } = known(observed.rules(), config);
      for (const line of [...notes(observed), ...left]) io.stderr.write(`${line}\n`);
      if (rules.length === 0) {
        io.stderr.write(
          'selvedge egress: no call beyond the mesh was let through in this log, so there is nothing to suggest\n',
        );
        return EXIT.checkFailed;
      }
      io.stdout.write(egressYaml(rules));
      return EXIT.good;
    },
  };
}

async function readConfig(path: string, io: Io): Promise<Config | 'broken'> {
  const { config, problems } = await loadConfig(path, { env: io.env, cwd: io.cwd });
  if (config !== null) return config;
  for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
  return 'broken';
}

async function read(log: Readable, observed: Observed): Promise<void> {
  // Errors of the file are told to whoever iterates over the lines only if they come before the first one.
  let failure: Error | null = null;
  const lines = createInterface({ input: log, crlfDelay: Number.POSITIVE_INFINITY });
  log.on('error', (error) => {
    failure = error;
    lines.close();
  });
  for await (const line of lines) if (line.trim() !== '') observed.add(line);
  if (failure !== null) throw failure;
}

/** Without callers that the config does not have; everything where there is no config. */
function known(rules: readonly Rule[], config: Config | null): { rules: readonly Rule[]; left: readonly string[] } {
  if (config === null) return { rules, left: [] };
  const services = new Set(config.services.map(({ name }) => name));
  const strangers = new Set(rules.flatMap(({ owners }) => owners.filter((owner) => !services.has(owner))));
  const left = [...strangers].map((owner) => `left out: calls of "${owner}", which the config does not have`);
  const kept = rules.map((rule) => ({ ...rule, owners: rule.owners.filter((owner) => services.has(owner)) }));
  return { rules: kept.filter(({ owners }) => owners.length > 0), left };
}

function notes({ unreadable, denied, beyond, mismatched }: Observed): string[] {
  const found = mismatched.map(
    ([what, calls]) =>
      `left out: ${what}, ${counted(calls, 'tunnel')} without TLS to that host; a rule with "tls: false" would allow them`,
  );
  if (denied > 0) found.push(`left out: ${counted(denied, 'call')} denied already`);
  if (beyond > 0) found.push(`left out: ${counted(beyond, 'call')} beyond the first 10,000 destinations`);
  if (unreadable > 0)
    found.push(`not read: ${counted(unreadable, 'line')} that ${unreadable === 1 ? 'is' : 'are'} no JSON object`);
  return found;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

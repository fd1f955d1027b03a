// `selvedge intercept`: rules of the kernel that lead an application's connections through its hop, without a change to the application.
import { loadConfig } from '../config/load.ts';
import { formatProblem } from '../config/problem.ts';
import { type Command, type CommandInput, EXIT, type Io, UsageError } from './command.ts';
import { configPath } from './config-option.ts';
import {
  type BackendName,
  installed,
  type Step,
  stepsToApply,
  stepsToRemove,
  ToolError,
  take,
} from './intercept/backend.ts';
import { plain } from './intercept/names.ts';
import { PlanError, planInterception } from './intercept/plan.ts';
import { type System, thisMachine } from './intercept/system.ts';

export const command: Command = interceptCommand(thisMachine);

/** @param machine - the one whose rules are changed */
export function interceptCommand(machine: () => System): Command {
  return {
    name: 'intercept',
    summary: 'Lead an application through its hop without changing it (Linux)',
    help: `selvedge intercept --internal SERVICE [-c PATH] [--user USER] [--print | --apply | --remove] [--backend nft | iptables] [--force]

  --internal SERVICE    the service whose application and hop are on this machine
  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --user USER           id or name of the user that the application runs as; default: whoever listens at its address.
                        The hop has to run as another user
  --print               print the rules and change nothing (the default)
  --apply               print the rules and put them in force, instead of those of an earlier run
  --remove              take all of it away again; reads no config
  --backend NAME        nft, or iptables where nft is missing
  --force               also for root

Outbound: TCP connections of that user to addresses of the services in the config go to the outbound side of the hop.
Inbound: TCP connections from other machines to the application's port go to the inbound side of the hop.
Connections that are open already stay as they are. Nothing but a table (chains) of Selvedge's own is changed.

Exit codes: 0 done, 1 cannot be done here, 2 wrong usage, 3 the config has errors.`,
    options: {
      config: { type: 'string', short: 'c' },
      internal: { type: 'string' },
      user: { type: 'string' },
      print: { type: 'boolean' },
      apply: { type: 'boolean' },
      remove: { type: 'boolean' },
      backend: { type: 'string' },
      force: { type: 'boolean' },
    },
    async run(input, io) {
      const { service, mode, backend } = readOptions(input);
      const system = machine();
      try {
        if (system.platform !== 'linux')
          throw new PlanError(`intercept works on Linux only; this is ${system.platform}`);
        if (mode !== 'print' && !system.mayChangeRules())
          throw new PlanError(`--${mode} changes rules of the kernel: run it as root, or with CAP_NET_ADMIN`);
        if (mode === 'remove') return await remove(service, await backends(backend, system), system, io);
        return await apply(input, service, mode, backend, system, io);
      } catch (error) {
        if (!(error instanceof PlanError || error instanceof ToolError)) throw error;
        io.stderr.write(`selvedge intercept: ${plain(error.message)}\n`);
        return EXIT.checkFailed;
      }
    },
  };
}

type Mode = 'print' | 'apply' | 'remove';

function readOptions({ values }: CommandInput): { service: string; mode: Mode; backend: BackendName | null } {
  const { internal, backend = null } = values as { internal?: string; backend?: string | null };
  if (internal === undefined || internal === '') throw new UsageError('whose hop? say --internal SERVICE');
  if (backend !== null && backend !== 'nft' && backend !== 'iptables')
    throw new UsageError(`no backend "${backend}"; there are: nft, iptables`);
  const modes = (['print', 'apply', 'remove'] as const).filter((mode) => values[mode] === true);
  if (modes.length > 1) throw new UsageError(`--${modes.join(' and --')} exclude each other`);
  return { service: internal, mode: modes[0] ?? 'print', backend };
}

async function backends(asked: BackendName | null, system: System): Promise<readonly BackendName[]> {
  const found = await installed(system);
  if (asked !== null && !found.includes(asked)) throw new ToolError(`there is no ${asked} on this machine`);
  if (found.length === 0) throw new ToolError('there is neither nft nor iptables on this machine: install nftables');
  return asked === null ? found : [asked];
}

async function apply(
  input: CommandInput,
  service: string,
  mode: 'print' | 'apply',
  asked: BackendName | null,
  system: System,
  io: Io,
): Promise<number> {
  const { config, problems } = await loadConfig(configPath('intercept', input, io), { env: io.env, cwd: io.cwd });
  if (config === null) {
    for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
    return EXIT.couldNotStart;
  }
  const { user = null, force = false } = input.values as { user?: string; force?: boolean };
  const plan = await planInterception(config, { service, user, force }, system);
  const [backend] = mode === 'apply' ? await backends(asked, system) : [asked ?? (await installed(system))[0] ?? 'nft'];
  const steps = await stepsToApply(backend, plan, system, mode === 'apply');
  for (const warning of plan.warnings) io.stderr.write(`warning: ${plain(warning)}\n`);
  show(steps, io);
  if (mode === 'print') return EXIT.good;
  await take(steps, system);
  const port = config.services.find(({ name }) => name === service)?.internal?.outbound?.port;
  if (port !== undefined && system.listeners(port).length === 0)
    io.stderr.write(
      `warning: nobody listens at port ${port} yet: until the hop runs, calls of the application are refused\n`,
    );
  io.stdout.write(`# in force; selvedge intercept --internal ${plain(service)} --remove takes it away\n`);
  return EXIT.good;
}

async function remove(service: string, from: readonly BackendName[], system: System, io: Io): Promise<number> {
  let steps: readonly Step[] = [];
  for (const backend of from) steps = [...steps, ...(await stepsToRemove(backend, service, system))];
  show(steps, io);
  await take(steps, system);
  io.stdout.write(steps.length === 0 ? '# nothing of it is here\n' : '# removed\n');
  return EXIT.good;
}

/** Comments in both languages begin like those of a shell. */
function show(steps: readonly Step[], io: Io): void {
  for (const { tool, args, stdin } of steps) io.stdout.write(`# ${tool} ${args.join(' ')}\n${stdin}\n`);
}

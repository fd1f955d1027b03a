// `selvedge check`: everything that is wrong with a config, one problem a line.
import { formatProblem, inOrder } from '../config/problem.ts';
import { type AskAdmin, askAdmin } from './ask-admin.ts';
import { checkConfig } from './check-config.ts';
import { type Command, EXIT } from './command.ts';
import { configPath } from './config-option.ts';
import { adviseOnIdentity } from './identity-advice.ts';
import { adviseOnIdle } from './idle-advice.ts';

export const command: Command = checkCommand(askAdmin);

/** @param ask - asks the Selvedge that may be running with this config */
export function checkCommand(ask: AskAdmin): Command {
  return {
    name: 'check',
    summary: 'Say everything that is wrong with a config',
    help: `selvedge check [-c PATH] [--gateway NAME]… [--internal SERVICE]… [--json]

  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --gateway NAME        as for run: check the addresses of the roles that one process has, not of all together
  --internal SERVICE    as for run
  --json                problems as JSON on stdout

Prints one line a problem to stderr: file:line:column, the path in the config, what is wrong and what to do. Certificates,
plugins and their options are looked at too. Warnings do not fail the check. Where a Selvedge answers at the admin address
of the config (on loopback only), what it has seen of the services and of its certificates is taken into account.

Exit codes: 0 good, 1 the config has errors, 2 wrong usage.`,
    options: {
      config: { type: 'string', short: 'c' },
      gateway: { type: 'string', multiple: true },
      internal: { type: 'string', multiple: true },
      json: { type: 'boolean' },
    },
    async run(input, io) {
      const path = configPath('check', input, io);
      const gateways = input.values.gateway as readonly string[] | undefined;
      const internal = input.values.internal as readonly string[] | undefined;
      const roles =
        gateways === undefined && internal === undefined
          ? null
          : { gateways: gateways ?? [], internal: internal ?? [] };
      const checked = await checkConfig(path, { env: io.env, cwd: io.cwd, roles });
      const { config, provenance } = checked;
      const advice =
        config === null || provenance === null
          ? []
          : await Promise.all([adviseOnIdle(config, provenance, ask), adviseOnIdentity(config, provenance, ask)]);
      const problems = inOrder([...checked.problems, ...advice.flat()]);
      const errors = problems.filter(({ severity }) => severity === 'error').length;
      const warnings = problems.length - errors;
      if (input.values.json === true) {
        io.stdout.write(`${JSON.stringify({ good: errors === 0, errors, warnings, problems }, null, 2)}\n`);
      } else {
        for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
        const counts = [counted(errors, 'error'), ...(warnings > 0 ? [counted(warnings, 'warning')] : [])].join(', ');
        if (config === null) io.stderr.write(`${counts}\n`);
        else {
          const parts = [
            counted(config.gateways.length, 'gateway'),
            counted(config.services.length, 'service'),
            counted(config.routes.length, 'route'),
          ];
          io.stdout.write(`good: ${parts.join(', ')}${warnings > 0 ? ` (${counted(warnings, 'warning')})` : ''}\n`);
        }
      }
      return errors === 0 ? EXIT.good : EXIT.checkFailed;
    },
  };
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

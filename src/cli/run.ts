// `selvedge run`: the config, or the roles of it that this process is, until a signal ends it.
import type { Command } from './command.ts';
import { configPath } from './config-option.ts';

export const command: Command = {
  name: 'run',
  summary: 'Run gateways and hops of a config until SIGTERM',
  help: `selvedge run [-c PATH] [--gateway NAME]… [--internal SERVICE]…

  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --gateway NAME        run this gateway; may be repeated
  --internal SERVICE    run the hop of this service; may be repeated

Without --gateway and --internal every role of the config runs in this process.

The config is read again when one of its files changes and on SIGHUP; one with errors is logged and not applied.
SIGTERM fails readiness, serves on for drain.grace, closes the listeners, lets requests in flight end within
drain.timeout, and exits 0. SIGINT does the same without the grace. A second signal exits at once (143, 130).

Exit codes: 0 stopped by a signal, 2 wrong usage, 3 could not start (every problem is on stderr).`,
  options: {
    config: { type: 'string', short: 'c' },
    gateway: { type: 'string', multiple: true },
    internal: { type: 'string', multiple: true },
  },
  async run(input, io) {
    const config = configPath('run', input, io);
    const gateways = input.values.gateway as readonly string[] | undefined;
    const internal = input.values.internal as readonly string[] | undefined;
    const { serve } = await import('./serve.ts');
    return serve({ config, roles: { gateways, internal } }, io);
  },
};

// `selvedge run`: the config, or the roles of it that this process is, until a signal ends it.
import { type Command, UsageError } from './command.ts';
import { configPath } from './config-option.ts';

export const command: Command = {
  name: 'run',
  summary: 'Run gateways and hops of a config until SIGTERM',
  help: `selvedge run [-c PATH] [--gateway NAME]… [--internal SERVICE]… [-- APP [ARGUMENT]…]

  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --gateway NAME        run this gateway; may be repeated
  --internal SERVICE    run the hop of this service; may be repeated

  -- APP ARGUMENT…      start this application once the hop listens; needs exactly one --internal

Without --gateway and --internal every role of the config runs in this process.

APP gets our environment and standard streams, with HTTP_PROXY, http_proxy and NODE_USE_ENV_PROXY=1 set so that its
plain HTTP calls to services go through the hop, and loopback added to NO_PROXY and no_proxy. HTTPS_PROXY is not set.

The config is read again when one of its files changes and on SIGHUP; one with errors is logged and not applied.
SIGTERM fails readiness, serves on for drain.grace, closes the listeners, lets requests in flight end within
drain.timeout, and exits 0. SIGINT does the same without the grace. A second signal exits at once (143, 130).

With APP the application is told behind the grace, and the hop serves its calls until it has ended; after drain.timeout
it is killed. Then the hop drains and exits as the application did. So it does when the application ends by itself. A
second signal kills the application too. SIGUSR1, SIGUSR2 and SIGQUIT go to the application.

Exit codes: 0 stopped by a signal, 2 wrong usage, 3 could not start (every problem is on stderr). With APP its own code,
128 + number when a signal ended it; 127 no such command, 126 cannot be executed.`,
  options: {
    config: { type: 'string', short: 'c' },
    gateway: { type: 'string', multiple: true },
    internal: { type: 'string', multiple: true },
  },
  async run(input, io) {
    const config = configPath('run', input, io);
    const gateways = input.values.gateway as readonly string[] | undefined;
    const internal = input.values.internal as readonly string[] | undefined;
    const app = input.rest.length === 0 ? null : { words: input.rest, hop: onlyHop(internal) };
    const { serve } = await import('./serve.ts');
    return serve({ config, roles: { gateways, internal } }, io, app);
  },
};

function onlyHop(internal: readonly string[] = []): string {
  if (internal.length === 1) return internal[0];
  const given = internal.length === 0 ? 'none is given' : `${internal.length} are given`;
  throw new UsageError(`an application behind "--" needs exactly one --internal, whose hop it calls through; ${given}`);
}

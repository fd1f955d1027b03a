// `selvedge print`: the config as it takes effect, every value with where it came from.

import { loadConfig } from '../config/load.ts';
import { formatProblem } from '../config/problem.ts';
import { didYouMean } from '../config/suggest.ts';
import { builtins } from '../plugins/index.ts';
import { optionSchemas } from '../proxy/load-plugin.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { configPath } from './config-option.ts';
import { annotate, roleSelection, type Selection } from './effective-config.ts';
import { effectiveYaml, originsByPath, plainValue } from './effective-text.ts';
import { type RouteChain, routeChains, routeChainsText } from './route-chains.ts';

export const command: Command = {
  name: 'print',
  summary: 'Print the effective config, and where each value came from',
  help: `selvedge print [-c PATH] [--route NAME | --role gateway/NAME | --role internal/SERVICE] [--json]

  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --route NAME          this route only
  --role ROLE           what this role reads of the config: gateway/public, internal/orders
  --json                { "config": …, "origins": { path: origin } } instead of YAML; with --route "chains" too

Prints the config with all defaults filled in. Comments say where a value was written (file:line:column), which environment
variables it was made of, or that it is a default. Secrets read [redacted]: contents of \${file:…}, variables whose names
say that they are secret, passwords in URLs, and whatever the schema calls secret (writeOnly).

With --route, the plugins that a request meets follow in order, for each listener where they differ: which list each comes
from, what it replaces there, what is locked, and what is switched off by whom.

Exit codes: 0 good, 1 the config has errors, 2 wrong usage.`,
  options: {
    config: { type: 'string', short: 'c' },
    route: { type: 'string' },
    role: { type: 'string' },
    json: { type: 'boolean' },
  },
  async run(input, io) {
    const { route, role, json } = input.values as { route?: string; role?: string; json?: boolean };
    if (route !== undefined && role !== undefined) throw new UsageError('--route and --role exclude each other');
    const { config, problems, provenance } = await loadConfig(configPath('print', input, io), {
      env: io.env,
      cwd: io.cwd,
    });
    if (config === null || provenance === null) {
      for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
      return EXIT.checkFailed;
    }

    provenance.hide(await optionSchemas(config, builtins));
    let selection: Selection | null = null;
    let chains: readonly RouteChain[] | null = null;
    if (route !== undefined) {
      const names = config.routes.map(({ name }) => name);
      if (!names.includes(route)) throw new UsageError(`no route "${route}"${didYouMean(route, names)}`);
      chains = routeChains(config, route);
      selection = { routes: new Set([route]), gateways: new Set(), services: new Set(), others: false };
    } else if (role !== undefined) {
      selection = roleSelection(role, config);
    }
    const effective = annotate(provenance, selection);
    io.stdout.write(
      json === true
        ? `${JSON.stringify({ config: plainValue(effective), origins: originsByPath(effective), ...(chains === null ? {} : { chains }) }, null, 2)}\n`
        : `${effectiveYaml(effective)}${chains === null ? '' : routeChainsText(chains)}`,
    );
    return EXIT.good;
  },
};

// `selvedge rollout`: how the rollouts of a running Selvedge stand, and pausing, resuming or aborting one, by its admin API.
import { CHANGE_HEADER } from '../admin/rollouts.ts';
import { loadConfig } from '../config/load.ts';
import { formatProblem } from '../config/problem.ts';
import { didYouMean } from '../config/suggest.ts';
import { formatHostPort } from '../http/address.ts';
import type { RolloutDescription } from '../runtime/rollouts.ts';
import { type Command, type CommandInput, EXIT, type Io, UsageError } from './command.ts';
import { configPath } from './config-option.ts';
import { rolloutText } from './rollout-text.ts';

const ACTIONS = ['status', 'pause', 'resume', 'abort'];

/** How long the admin API may take. */
const TIMEOUT_MS = 5_000;

export const command: Command = {
  name: 'rollout',
  summary: 'Show, pause, resume or abort the rollouts of a running Selvedge',
  help: `selvedge rollout status|pause|resume|abort [ROUTE] [-c PATH | --admin URL] [--json]

  status                how each rollout stands, with what both versions did, and why
  pause                 keep the share as it is, whatever is measured
  resume                go on after a pause; after an abort, begin again with the first step
  abort                 back to the old version at once

  ROUTE                 name of the route; may be left out where only one has a rollout
  -c, --config PATH     config file or directory, for the address of the admin API; default as for run
  --admin URL           http://127.0.0.1:9901 instead of what the config says
  --json                what the admin API answered, as JSON

Every process decides for itself: with several, say it to each.

Exit codes: 0 good, 1 no such rollout, or its state does not allow it, 2 wrong usage, 3 nothing answers there.`,
  options: {
    config: { type: 'string', short: 'c' },
    admin: { type: 'string' },
    json: { type: 'boolean' },
  },
  async run(input, io) {
    const [action, route, extra] = input.positionals;
    if (action === undefined) throw new UsageError('rollout needs one of status, pause, resume and abort');
    if (!ACTIONS.includes(action))
      throw new UsageError(`rollout has no "${action}"${didYouMean(action, ACTIONS)}; it has: ${ACTIONS.join(', ')}`);
    if (extra !== undefined) throw new UsageError(`rollout takes no third argument "${extra}"`);
    const base = await adminUrl(input, io);
    if (base === null) return EXIT.checkFailed;
    try {
      const rollouts = await listed(base, route ?? null, io);
      if (rollouts === null) return EXIT.checkFailed;
      const shown = action === 'status' ? rollouts : await change(base, action, only(rollouts), io);
      if (shown === null) return EXIT.checkFailed;
      const text =
        input.values.json === true ? `${JSON.stringify({ rollouts: shown }, null, 2)}\n` : rolloutText(shown);
      io.stdout.write(text);
      return EXIT.good;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      io.stderr.write(`selvedge rollout: ${error.message}\n`);
      return EXIT.couldNotStart;
    }
  },
};

/** Whatever is there does not answer as an admin API does. */
class NoAnswer extends Error {}

/** Null: the config has errors, which were told. */
async function adminUrl(input: CommandInput, io: Io): Promise<URL | null> {
  const { admin, config: path } = input.values;
  if (typeof admin === 'string') {
    const url = URL.canParse(admin) ? new URL(admin) : null;
    if (path !== undefined) throw new UsageError('--admin and --config exclude each other');
    if (url?.protocol !== 'http:')
      throw new UsageError(`"${admin}" is no URL of an admin API: write http://127.0.0.1:9901`);
    return url;
  }
  const { config, problems } = await loadConfig(configPath('rollout', { ...input, positionals: [] }, io), {
    env: io.env,
    cwd: io.cwd,
  });
  if (config === null) {
    for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
    return null;
  }
  if (config.admin === null) throw new UsageError('the config has no admin API (admin: false)');
  const { host, port } = config.admin;
  if (port === 0) throw new UsageError('the config lets the admin API take any free port: name it by --admin');
  const everywhere: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  return new URL(`http://${formatHostPort(everywhere[host] ?? host, port)}`);
}

/** All, or the one of this route; null where there is none of that name, which was told. */
async function listed(base: URL, route: string | null, io: Io): Promise<readonly RolloutDescription[] | null> {
  const { rollouts } = (await ask(base, '/rollouts', 'GET')).body as { rollouts: readonly RolloutDescription[] };
  if (!Array.isArray(rollouts)) throw new NoAnswer(`${base.origin} is no admin API of Selvedge that knows rollouts`);
  if (route === null) return rollouts;
  const found = rollouts.filter((rollout) => rollout.route === route);
  if (found.length > 0) return found;
  const names = rollouts.map((rollout) => rollout.route);
  io.stderr.write(`selvedge rollout: no route "${route}" with a rollout is in force${didYouMean(route, names)}\n`);
  return null;
}

/** The route that is meant when none is named; null: there is none. */
function only(rollouts: readonly RolloutDescription[]): string | null {
  if (rollouts.length > 1) {
    throw new UsageError(`say which one: ${rollouts.map(({ route }) => route).join(', ')}`);
  }
  return rollouts[0]?.route ?? null;
}

async function change(base: URL, action: string, route: string | null, io: Io): Promise<RolloutDescription[] | null> {
  if (route === null) {
    io.stderr.write('selvedge rollout: no route with a rollout is in force\n');
    return null;
  }
  const { status, body } = await ask(base, `/rollouts/${encodeURIComponent(route)}/${action}`, 'POST');
  if (status === 200) return [body as RolloutDescription];
  io.stderr.write(`selvedge rollout: ${(body as { detail?: string }).detail ?? `the admin API answered ${status}`}\n`);
  return null;
}

async function ask(
  base: URL,
  path: string,
  method: string,
): Promise<{ readonly status: number; readonly body: object }> {
  const url = new URL(path, base);
  try {
    const headers = { [CHANGE_HEADER]: '1' };
    const response = await fetch(url, { method, headers, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body: unknown = await response.json();
    if (typeof body !== 'object' || body === null) throw new Error('the answer is no JSON object');
    return { status: response.status, body };
  } catch (error) {
    const { cause, message } = error as Error;
    const why = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : message;
    throw new NoAnswer(`no admin API answers at ${base.origin}: ${why}`);
  }
}

// `selvedge authz`: whether a request would be allowed and by which policy, offline, by the evaluator that would decide it; and `authz suggest`.
import { policiesFor } from '../config/authorization-use.ts';
import { loadConfig } from '../config/load.ts';
import type { AuthorizationPolicy, Config } from '../config/model.ts';
import { formatPlace, formatProblem } from '../config/problem.ts';
import { CALLER_ID } from '../config/resolve-authorization.ts';
import { didYouMean } from '../config/suggest.ts';
import { isCidr } from '../http/address.ts';
import { normalizeHost, normalizeWrittenPath, splitTarget } from '../http/path.ts';
import {
  type AuthorizationExplanation,
  type AuthorizedRequest,
  compileAuthorization,
  explainAuthorization,
} from '../policies/authorization.ts';
import { type Command, type CommandInput, EXIT, type Io, UsageError } from './command.ts';
import { configPath } from './config-option.ts';
import { readHeaders } from './header-option.ts';
import { seenByProcess, seenInLogs, suggestedPolicies } from './suggest-policies.ts';

export const command: Command = {
  name: 'authz',
  summary: 'Say whether a request would be allowed, offline; or suggest policies from what was seen',
  help: `selvedge authz --to TARGET [--from CALLER] [--method M] [--path P] [--host H] [-H 'name: value']… [--claim NAME=VALUE]…
               [--client-address A] [-c PATH] [--json]
selvedge authz suggest --log FILE… | --admin URL [-c PATH]

  --to TARGET           service/orders or orders, gateway/public
  --from CALLER         service/cart, gateway/public, or a whole id spiffe://…; default: a caller without an identity
  --method M            default GET
  --path P              default /; normalised as that of a request
  --host H              default: the service's name; none for a gateway
  -H, --header LINE     a request header; may be repeated
  --claim NAME=VALUE    a verified claim; repeated with the same name it is a list
  --client-address A    default: none that is known
  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  --json                the whole explanation as JSON

Prints the verdict with the policy that decides, and of every policy the first condition that failed in each of its rules.

suggest reads access logs, or what a running process has seen, and writes the policies that would allow what "audit: true" reported as denied for want of an allow policy:
YAML on stdout, with the number of requests behind every rule. Read it before you use it: it is what was asked, not what should be.

  --log FILE            an access log as Selvedge writes it, one JSON object a line; may be repeated
  --admin URL           the admin API of a running process, http://127.0.0.1:9901: what it has seen since it began

Exit codes: 0 allowed (also under audit), or suggested; 1 denied, or nothing to suggest; 2 wrong usage; 3 the config has errors, or no admin API answers.`,
  options: {
    config: { type: 'string', short: 'c' },
    to: { type: 'string' },
    from: { type: 'string' },
    method: { type: 'string' },
    path: { type: 'string' },
    host: { type: 'string' },
    header: { type: 'string', short: 'H', multiple: true },
    claim: { type: 'string', multiple: true },
    'client-address': { type: 'string' },
    json: { type: 'boolean' },
    log: { type: 'string', multiple: true },
    admin: { type: 'string' },
  },
  async run(input, io) {
    const [action, extra] = input.positionals;
    if (action !== undefined && action !== 'suggest')
      throw new UsageError(`authz has no "${action}"${didYouMean(action, ['suggest'])}; it has: suggest`);
    if (extra !== undefined)
      throw new UsageError(`authz suggest takes no argument "${extra}" (a log is given by --log)`);
    const suggesting = action === 'suggest';
    checkOptions(input, suggesting);
    const path = configPath('authz', { ...input, positionals: [] }, io);
    const { config, problems } = await loadConfig(path, { env: io.env, cwd: io.cwd });
    if (config === null) {
      for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
      return EXIT.couldNotStart;
    }
    return suggesting ? suggest(config, input, io) : answer(config, input, io);
  },
};

const SUGGESTING = ['log', 'admin'];

function checkOptions({ values }: CommandInput, suggesting: boolean): void {
  const given = Object.keys(values).filter((name) => name !== 'config');
  const wrong = given.find((name) => SUGGESTING.includes(name) !== suggesting);
  if (wrong !== undefined)
    throw new UsageError(suggesting ? `authz suggest takes no --${wrong}` : `--${wrong} is for authz suggest`);
  if (suggesting && given.length !== 1)
    throw new UsageError('authz suggest needs one source: access logs, --log FILE, or a running process, --admin URL');
  if (!suggesting && values.to === undefined)
    throw new UsageError('authz needs a target: --to service/orders or --to gateway/public');
}

async function suggest(config: Config, { values }: CommandInput, io: Io): Promise<number> {
  const { log, admin } = values;
  let seen: Awaited<ReturnType<typeof seenInLogs>>;
  try {
    seen = typeof admin === 'string' ? await seenByProcess(admin) : await seenInLogs(log as readonly string[], io.cwd);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    io.stderr.write(`selvedge authz: ${(error as Error).message}\n`);
    return EXIT.couldNotStart;
  }
  const text = suggestedPolicies(config, seen);
  if (text !== null) {
    io.stdout.write(text);
    return EXIT.good;
  }
  io.stderr.write(
    'selvedge authz: nothing to suggest: no request was seen that would be denied for want of an allow policy ("verdict": "audit_denied"); put a policy with "audit: true" in force and let traffic pass\n',
  );
  return EXIT.checkFailed;
}

function answer(config: Config, { values }: CommandInput, io: Io): number {
  const target = readTarget(config, values.to as string);
  const request = readRequest(config, target, values);
  const authorization = compileAuthorization(
    `${target.kind} ${target.name}`,
    policiesFor(config, target.kind, target.name),
  );
  const explanation = explainAuthorization(authorization, request);
  const notes = notesOn(config, target, request);
  if (values.json === true) {
    const { peer, headers, claims, ...rest } = request;
    const asked = { from: peer?.id ?? null, ...rest, headers, claims: claims ?? {} };
    io.stdout.write(`${JSON.stringify({ target, request: asked, ...explanation, notes }, null, 2)}\n`);
  } else io.stdout.write(answerText(config, target, request, explanation, notes));
  return explanation.verdict.verdict === 'denied' ? EXIT.checkFailed : EXIT.good;
}

type Target = AuthorizationPolicy['target'];

function readTarget(config: Config, written: string): Target {
  const [, kind = 'service', name] = /^(?:(service|gateway)\/)?(.*)$/s.exec(written) as RegExpExecArray;
  mustExist(config, kind as Target['kind'], name);
  return { kind: kind as Target['kind'], name };
}

function mustExist(config: Config, kind: Target['kind'], name: string): void {
  const known = (kind === 'service' ? config.services : config.gateways).map((one) => one.name);
  if (!known.includes(name)) throw new UsageError(`no ${kind} "${name}" in the config${didYouMean(name, known)}`);
}

function readCaller(config: Config, written: string): AuthorizedRequest['peer'] {
  const { trustDomain } = config.mesh;
  const [, kind, name] = /^(service|gateway)\/([^/*]+)$/.exec(written) ?? [];
  if (kind !== undefined) {
    mustExist(config, kind as Target['kind'], name);
    return { id: `spiffe://${trustDomain}/${written}`, trustDomain };
  }
  if (!CALLER_ID.test(written) || written.endsWith('/*'))
    throw new UsageError(`"${written}" is no caller: write service/NAME, gateway/NAME or a whole id, spiffe://…`);
  return { id: written, trustDomain: written.split('/')[2] };
}

function readRequest(config: Config, target: Target, values: CommandInput['values']): AuthorizedRequest {
  const method = ((values.method as string | undefined) ?? 'GET').toUpperCase();
  if (!/^[!#$%&'*+.^_`|~0-9A-Z-]+$/.test(method)) throw new UsageError(`"${method}" is no HTTP method`);
  const written = (values.path as string | undefined) ?? '/';
  const parts = splitTarget(written);
  const normal = parts === null || parts.authority !== null ? null : normalizeWrittenPath(parts.path);
  if (normal === null) throw new UsageError(`"${written}" is no path of a request: it begins with "/"`);
  const headers = readHeaders((values.header ?? []) as readonly string[]);
  const authority =
    (values.host as string | undefined) ?? headers.host ?? (target.kind === 'service' ? target.name : '');
  const host = authority === '' ? '' : normalizeHost(authority);
  if (host === null) throw new UsageError(`"${authority}" is no host`);
  const clientAddress = (values['client-address'] as string | undefined) ?? '';
  if (clientAddress !== '' && (!isCidr(clientAddress) || clientAddress.includes('/')))
    throw new UsageError(`"${clientAddress}" is no IP address`);
  const from = values.from as string | undefined;
  return {
    peer: from === undefined ? null : readCaller(config, from),
    method,
    path: normal.path,
    host,
    headers: authority === '' ? headers : { ...headers, host: authority },
    claims: readClaims((values.claim ?? []) as readonly string[]),
    clientAddress,
  };
}

function readClaims(written: readonly string[]): Readonly<Record<string, string | readonly string[]>> | null {
  const claims = new Map<string, string | readonly string[]>();
  for (const claim of written) {
    const equals = claim.indexOf('=');
    if (equals <= 0) throw new UsageError(`--claim takes NAME=VALUE, got "${claim}"`);
    const name = claim.slice(0, equals);
    const value = claim.slice(equals + 1);
    const before = claims.get(name);
    claims.set(name, before === undefined ? value : [before, value].flat());
  }
  return claims.size === 0 ? null : Object.fromEntries(claims);
}

/** What makes the running process decide otherwise than these policies say. */
function notesOn(config: Config, { kind, name }: Target, { peer }: AuthorizedRequest): string[] {
  const service = kind === 'service' ? config.services.find((one) => one.name === name) : undefined;
  if (service === undefined) return [];
  if (service.internal === null) return [`service "${name}" has no hop, so nothing applies its policies`];
  const notes: string[] = [];
  if (service.protocol === 'tcp')
    notes.push(
      `service "${name}" speaks TCP: caller and client address count, and rules that need a request never hold`,
    );
  if (peer !== null && service.mtls === 'off') notes.push('while "mesh.mtls" is off, no caller has an identity');
  return notes;
}

function answerText(
  config: Config,
  { kind, name }: Target,
  request: AuthorizedRequest,
  { verdict, path, policies }: AuthorizationExplanation,
  notes: readonly string[],
): string {
  const lines = [
    `target      ${kind} ${name}`,
    `caller      ${request.peer?.id ?? 'no identity'}`,
    `request     ${request.method} ${request.path}${request.host === '' ? '' : ` of ${request.host}`}`,
  ];
  if (path !== request.path) lines.push(`judged as   ${path}, which a service may take that path for`);
  if (policies.length > 0) lines.push('considered');
  for (const policy of policies) {
    const at = config.authorization.find((one) => one.name === policy.name)?.at;
    const what = `${policy.effect}${policy.audit ? ', audit' : ''}`;
    lines.push(
      `  ${policy.matched ? '+' : '-'} ${policy.name}${at === undefined ? '' : ` (${formatPlace(at)})`} ${what}: ${outcome(policy)}`,
    );
  }
  const by = verdict.policy ?? (policies.length === 0 ? 'no policy: there is none' : 'no policy');
  lines.push(
    verdict.verdict === 'audit_denied'
      ? `verdict     allowed; without audit it would be denied by ${by}`
      : `verdict     ${verdict.verdict} by ${by}`,
  );
  for (const note of notes) lines.push(`note        ${note}`);
  return `${lines.join('\n')}\n`;
}

function outcome({ matched, rules }: AuthorizationExplanation['policies'][number]): string {
  if (matched) return 'matches';
  if (rules.length === 0) return 'has no rule';
  return rules.length === 1
    ? String(rules[0])
    : rules.map((failed, index) => `rule ${index + 1}: ${failed}`).join('; ');
}

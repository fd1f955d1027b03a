// `selvedge authz suggest`: from what was seen under audit, in access logs or by a running process, to the allow policies that would let it in.
import { createReadStream } from 'node:fs';
import { METHODS } from 'node:http';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Config } from '../config/model.ts';
import { regexProblem } from '../config/regex.ts';
import { CALLER_ID } from '../config/resolve-authorization.ts';
import { reasonOf } from '../config/substitute.ts';
import { type SeenRequest, SeenRequests, type SeenTarget } from '../policies/seen-requests.ts';
import { UsageError } from './command.ts';

/** How long the admin API may take. */
const TIMEOUT_MS = 5_000;

type SeenPath = SeenTarget['callers'][number]['paths'][number];

/** Throws a UsageError for a file that cannot be read. */
export async function seenInLogs(files: readonly string[], cwd: string): Promise<SeenTarget[]> {
  const seen = new SeenRequests();
  for (const file of files) {
    try {
      const input = createReadStream(resolve(cwd, file));
      for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
        const request = requestOf(line);
        if (request !== null) seen.add(request);
      }
    } catch (error) {
      throw new UsageError(`${file} cannot be read: ${reasonOf(error)}`);
    }
  }
  return seen.list();
}

/** Null for lines that say nothing about policies under audit. */
function requestOf(line: string): SeenRequest | null {
  if (!line.includes('"audit_denied"')) return null;
  let parsed: Readonly<Record<string, unknown>>;
  try {
    parsed = JSON.parse(line);
  } catch {
    return null;
  }
  const { role, owner, peer, method, path, status, verdict, policy } = parsed;
  if (verdict !== 'audit_denied' || (role !== 'inbound' && role !== 'gateway')) return null;
  if (typeof owner !== 'string' || typeof path !== 'string' || !METHODS.includes(String(method))) return null;
  return {
    target: `${role === 'inbound' ? 'service' : 'gateway'} ${owner}`,
    caller: typeof peer === 'string' ? peer : null,
    method: String(method),
    path,
    status: Number(status),
    policy: typeof policy === 'string' ? policy : null,
  };
}

/** What a running process keeps. Throws a UsageError for what is no URL, an Error where no admin API answers. */
export async function seenByProcess(admin: string): Promise<SeenTarget[]> {
  const url = URL.canParse(admin) ? new URL('/authorization', admin) : null;
  if (url?.protocol !== 'http:')
    throw new UsageError(`"${admin}" is no URL of an admin API: write http://127.0.0.1:9901`);
  try {
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
    const { seen } = (await response.json()) as { readonly seen?: unknown };
    if (!Array.isArray(seen) || !seen.every(isTarget)) throw new Error('it knows nothing of authorization');
    return seen;
  } catch (error) {
    const { cause, message } = error as Error;
    const why = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : message;
    throw new Error(`no admin API answers at ${url.origin}: ${why}`);
  }
}

function isTarget(value: unknown): value is SeenTarget {
  const { target, callers, unusable } = (value ?? {}) as Partial<SeenTarget>;
  if (typeof target !== 'string' || typeof unusable !== 'object' || !Array.isArray(callers)) return false;
  return (callers as SeenTarget['callers']).every(
    ({ caller, paths }) =>
      (caller === null || typeof caller === 'string') &&
      paths.every(
        ({ kind, value, methods }) =>
          ['exact', 'prefix', 'regex'].includes(kind) &&
          typeof value === 'string' &&
          Object.entries(methods).every(([method, times]) => METHODS.includes(method) && typeof times === 'number'),
      ),
  );
}

/** YAML that loads beside the config, a rule a line; null: nothing of what was seen makes one. */
export function suggestedPolicies(config: Config, seen: readonly SeenTarget[]): string | null {
  const taken = new Set(config.authorization.map(({ name }) => name));
  const sorted = [...seen].sort((a, b) => (a.target < b.target ? -1 : 1));
  const lines = sorted.flatMap((target) => policyLines(config, target, taken));
  if (!lines.some((line) => line.startsWith('  - '))) return null;
  const head =
    '# Suggested by "selvedge authz suggest": what was asked under audit, not what should be allowed. Read every line.';
  return `${[head, 'authorization:', ...lines].join('\n')}\n`;
}

/** Nothing for somebody else's services, or those of an old config: there is nothing that a policy could name. */
function policyLines(config: Config, { target, callers, unusable }: SeenTarget, taken: Set<string>): string[] {
  const [kind, name] = target.split(' ');
  const known = kind === 'service' ? config.services : config.gateways;
  if (!known.some((one) => one.name === name)) return [];
  const reasons = new Map(Object.entries(unusable));
  const count = (why: string, times: number) => void reasons.set(why, (reasons.get(why) ?? 0) + times);
  const rules: { readonly from: string; readonly line: string }[] = [];
  for (const { caller, paths } of callers) {
    const from = caller === null ? null : callerName(config, caller);
    for (const path of paths) {
      if (kind === 'service' && from === null) {
        count(
          caller === null ? 'their callers have no identity' : 'the config does not know their callers',
          total(path),
        );
      } else if (path.kind === 'regex' && regexProblem(path.value) !== null) {
        count('their path makes no regex', total(path));
      } else rules.push({ from: from ?? '', line: ruleLine(from, path) });
    }
  }
  const remarks = [...reasons].map(([why, times]) => `  # No rule for ${times} of the requests to ${target}: ${why}`);
  if (rules.length === 0) return remarks;
  const lines = rules.sort((a, b) => (a.from < b.from ? -1 : Number(a.from > b.from))).map(({ line }) => line);
  const policy = freeName(`${name.slice(0, 40)}-callers`, taken);
  return [...remarks, `  - name: ${policy}`, `    ${kind}: ${JSON.stringify(name)}`, '    allow:', ...lines];
}

/** As policies write it; null for what `check` would refuse. */
function callerName({ mesh, services, gateways }: Config, id: string): string | null {
  const own = `spiffe://${mesh.trustDomain}/`;
  if (id.startsWith(own)) {
    const [kind, name, ...rest] = id.slice(own.length).split('/');
    const known = kind === 'service' ? services : kind === 'gateway' ? gateways : [];
    return rest.length === 0 && known.some((one) => one.name === name) ? `${kind}/${name}` : null;
  }
  if (!CALLER_ID.test(id)) return null;
  return mesh.aliases.some(({ trustDomain }) => id.startsWith(`spiffe://${trustDomain}/`)) ? id : null;
}

function total({ methods }: SeenPath): number {
  return Object.values(methods).reduce((sum, times) => sum + times, 0);
}

function freeName(wanted: string, taken: Set<string>): string {
  let name = wanted;
  for (let number = 2; taken.has(name); number++) name = `${wanted}-${number}`;
  taken.add(name);
  return name;
}

/** What clients sent is written as JSON, which YAML reads as text and nothing else. */
function ruleLine(from: string | null, { kind, value, methods }: SeenPath): string {
  const caller = from === null ? '' : `from: [${JSON.stringify(from)}], `;
  const sorted = Object.entries(methods).sort(([a], [b]) => (a < b ? -1 : 1));
  const names = sorted.map(([method]) => method).join(', ');
  const counts = sorted.map(([method, times]) => `${method} ${times}`).join(', ');
  return `      - { ${caller}methods: [${names}], paths: [{ ${kind}: ${JSON.stringify(value)} }] } # ${counts}`;
}

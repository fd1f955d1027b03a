// `selvedge authz suggest`: from what access logs say was denied under audit to the allow policies that would let it in, as YAML.
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Config } from '../config/model.ts';
import { regexProblem } from '../config/regex.ts';
import { CALLER_ID } from '../config/resolve-authorization.ts';
import { reasonOf } from '../config/substitute.ts';
import { normalizePath } from '../http/path.ts';
import { otherReading } from '../http/path-readings.ts';
import { DEFAULT_DENY } from '../policies/authorization.ts';
import { type SeenPath, SeenPaths } from '../policies/seen-paths.ts';
import { EXIT, type Io, UsageError } from './command.ts';

/** Callers of all targets together; what others asked is only counted. */
const MAX_CALLERS = 1_000;
/** Parts of paths of all callers together. */
const MAX_PARTS = 50_000;
/** Statuses by which a service says that there is nothing to allow. */
const REFUSED = new Set([400, 401, 403, 404, 405]);

/** What is read of a line of the access log. */
interface Seen {
  readonly kind: 'service' | 'gateway';
  readonly target: string;
  readonly caller: string | null;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly policy: string;
}

/** Of one service or gateway. */
interface Target {
  readonly kind: Seen['kind'];
  readonly name: string;
  /** By caller as policies name it; empty: whoever it is, at a gateway. */
  readonly callers: Map<string, SeenPaths>;
  /** Reason → requests that no rule is suggested for. */
  readonly notes: Map<string, number>;
}

export async function suggest(config: Config, logs: readonly string[], io: Io): Promise<number> {
  const collected = new Collection(config);
  for (const log of logs) {
    try {
      const lines = createInterface({
        input: createReadStream(resolve(io.cwd, log)),
        crlfDelay: Number.POSITIVE_INFINITY,
      });
      for await (const line of lines) collected.read(line);
    } catch (error) {
      throw new UsageError(`${log} cannot be read: ${reasonOf(error)}`);
    }
  }
  const text = collected.text();
  if (text === null) {
    io.stderr.write(
      'selvedge authz: nothing to suggest: no line says that a request would be denied for want of an allow policy ("verdict": "audit_denied"); put a policy with "audit: true" in force and let traffic pass\n',
    );
    return EXIT.checkFailed;
  }
  io.stdout.write(text);
  return EXIT.good;
}

class Collection {
  readonly #targets = new Map<string, Target>();
  readonly #budget = { left: MAX_PARTS };
  readonly #config: Config;
  #callers = 0;

  constructor(config: Config) {
    this.#config = config;
  }

  read(line: string): void {
    const seen = seenOf(line);
    if (seen === null) return;
    const { kind, target: name } = seen;
    const known = kind === 'service' ? this.#config.services : this.#config.gateways;
    // Somebody else's log, or an old one: there is nothing that a policy could name.
    if (!known.some((one) => one.name === name)) return;
    const target = this.#target(kind, name);
    const caller = seen.caller === null ? null : this.#callerOf(seen.caller);
    const why = this.#unusable(seen, caller);
    if (why !== null) {
      note(target, why);
      return;
    }
    const paths = this.#paths(target, caller ?? '');
    if (paths === null) note(target, `their callers are beyond the first ${MAX_CALLERS}`);
    else paths.add(seen.path, seen.method);
  }

  /** Why no rule can or should be made of it; null: one can. */
  #unusable({ kind, caller, path, status, policy }: Seen, known: string | null): string | null {
    if (!policy.startsWith(DEFAULT_DENY)) return 'a deny policy under audit would deny them';
    if (REFUSED.has(status)) return 'the service itself refused them (400, 401, 403, 404, 405)';
    if (normalizePath(path)?.path !== path) return 'their path is cut off or malformed';
    if (otherReading(path) !== null) return 'services may read their path in two ways';
    if (kind === 'gateway' || known !== null) return null;
    return caller === null ? 'their callers have no identity' : 'the config does not know their callers';
  }

  #target(kind: Target['kind'], name: string): Target {
    const key = `${kind} ${name}`;
    const known = this.#targets.get(key);
    if (known !== undefined) return known;
    const made: Target = { kind, name, callers: new Map(), notes: new Map() };
    this.#targets.set(key, made);
    return made;
  }

  #paths(target: Target, caller: string): SeenPaths | null {
    const known = target.callers.get(caller);
    if (known !== undefined || this.#callers >= MAX_CALLERS) return known ?? null;
    this.#callers += 1;
    const made = new SeenPaths(this.#budget);
    target.callers.set(caller, made);
    return made;
  }

  /** As policies write it; null for what `check` would refuse. */
  #callerOf(id: string): string | null {
    const { mesh, services, gateways } = this.#config;
    const own = `spiffe://${mesh.trustDomain}/`;
    if (id.startsWith(own)) {
      const [kind, name, ...rest] = id.slice(own.length).split('/');
      const known = kind === 'service' ? services : kind === 'gateway' ? gateways : [];
      return rest.length === 0 && known.some((one) => one.name === name) ? `${kind}/${name}` : null;
    }
    if (!CALLER_ID.test(id)) return null;
    return mesh.aliases.some(({ trustDomain }) => id.startsWith(`spiffe://${trustDomain}/`)) ? id : null;
  }

  /** Null: there is nothing to suggest. */
  text(): string | null {
    const taken = new Set(this.#config.authorization.map(({ name }) => name));
    const targets = [...this.#targets.values()].sort((a, b) =>
      `${a.kind} ${a.name}` < `${b.kind} ${b.name}` ? -1 : 1,
    );
    const policies = targets.flatMap((target) => policyText(target, taken));
    if (!policies.some((line) => line.startsWith('  - '))) return null;
    return `# Suggested by "selvedge authz suggest": what was asked under audit, not what should be allowed. Read every line.\nauthorization:\n${policies.join('\n')}\n`;
  }
}

/** Null for lines that say nothing about authorization. */
function seenOf(line: string): Seen | null {
  if (!line.includes('"audit_denied"')) return null;
  let parsed: Readonly<Record<string, unknown>>;
  try {
    parsed = JSON.parse(line);
  } catch {
    return null;
  }
  const { role, owner, peer, method, path, status, verdict, policy } = parsed;
  if (verdict !== 'audit_denied' || (role !== 'inbound' && role !== 'gateway')) return null;
  if (typeof owner !== 'string' || typeof method !== 'string' || typeof path !== 'string') return null;
  if (!/^[A-Z-]{1,32}$/.test(method) || typeof policy !== 'string') return null;
  return {
    kind: role === 'inbound' ? 'service' : 'gateway',
    target: owner,
    caller: typeof peer === 'string' ? peer : null,
    method,
    path,
    status: Number(status),
    policy,
  };
}

function note({ notes }: Target, why: string, times = 1): void {
  notes.set(why, (notes.get(why) ?? 0) + times);
}

function policyText(target: Target, taken: Set<string>): string[] {
  const { kind, name, callers, notes } = target;
  const rules: string[] = [];
  for (const [caller, paths] of [...callers].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const path of paths.list()) {
      if (path.kind !== 'regex' || regexProblem(path.value) === null) rules.push(ruleText(caller, path));
      else note(target, 'their path is too long for a regex', total(path));
    }
    if (paths.leftOut > 0) note(target, 'there was no room for their paths', paths.leftOut);
  }
  const remarks = [...notes].map(
    ([why, times]) => `  # No rule for ${times} of the requests to ${kind} ${name}: ${why}`,
  );
  if (rules.length === 0) return remarks;
  const policy = freeName(`${name.slice(0, 40)}-callers`, taken);
  return [...remarks, `  - name: ${policy}`, `    ${kind}: ${JSON.stringify(name)}`, '    allow:', ...rules];
}

function total({ methods }: SeenPath): number {
  return [...methods.values()].reduce((sum, times) => sum + times, 0);
}

function freeName(wanted: string, taken: Set<string>): string {
  let name = wanted;
  for (let number = 2; taken.has(name); number++) name = `${wanted}-${number}`;
  taken.add(name);
  return name;
}

/** What clients sent is written as JSON, which YAML reads as text and nothing else. */
function ruleText(caller: string, { kind, value, methods }: SeenPath): string {
  const from = caller === '' ? '' : `from: [${JSON.stringify(caller)}], `;
  const sorted = [...methods].sort(([a], [b]) => (a < b ? -1 : 1));
  const counts = sorted.map(([method, times]) => `${method} ${times}`).join(', ');
  return `      - { ${from}methods: [${sorted.map(([method]) => method).join(', ')}], paths: [{ ${kind}: ${JSON.stringify(value)} }] } # ${counts}`;
}

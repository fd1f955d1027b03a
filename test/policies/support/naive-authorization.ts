// The semantics of authorization written down once more, as plainly as they can be said: what the compiled policies are held against.
import type {
  AuthorizationConditions,
  AuthorizationRule,
  AuthorizationRules,
  AuthorizedRequest,
  PathPattern,
  ValuePattern,
  Verdict,
} from '../../../src/policies/authorization.ts';

/** Kleene's third value: the request lacks what is asked about. */
type Truth = boolean | 'unknown';

const negated = (truth: Truth): Truth => (truth === 'unknown' ? truth : !truth);
const both = (truths: readonly Truth[]): Truth =>
  truths.includes(false) ? false : truths.includes('unknown') ? 'unknown' : true;

export function naiveVerdict(
  target: string,
  policies: readonly AuthorizationRules[],
  request: AuthorizedRequest,
): Verdict {
  const paths = [...new Set([request.path, plainPath(request.path)])];
  const verdicts = paths.map((path) => onePath(target, policies, { ...request, path }));
  return (
    verdicts.find(({ verdict }) => verdict === 'denied') ??
    verdicts.find(({ verdict }) => verdict === 'audit_denied') ??
    verdicts[0]
  );
}

function onePath(target: string, policies: readonly AuthorizationRules[], request: AuthorizedRequest): Verdict {
  const now = enforced(
    target,
    policies.filter(({ audit }) => !audit),
    request,
  );
  if (!now.allowed) return { verdict: 'denied', policy: now.by };
  // An audited policy cannot hide behind a deny that is in force: that one would have denied already.
  const then = enforced(target, policies, request);
  return then.allowed ? { verdict: 'allowed', policy: now.by } : { verdict: 'audit_denied', policy: then.by };
}

function enforced(target: string, policies: readonly AuthorizationRules[], request: AuthorizedRequest) {
  const holding = policies.filter(({ effect, rules }) => rules.some((rule) => holds(rule, effect, request)));
  const denies = holding.find(({ effect }) => effect === 'deny');
  if (denies !== undefined) return { allowed: false, by: denies.name };
  if (!policies.some(({ effect }) => effect === 'allow')) return { allowed: true, by: null };
  const allows = holding.find(({ effect }) => effect === 'allow');
  if (allows !== undefined) return { allowed: true, by: allows.name };
  return { allowed: false, by: `default deny of ${target}` };
}

/** An allow rule must be certain. A deny rule must be certain of what it asks for, and not of what it makes an exception for. */
function holds(rule: AuthorizationRule, effect: 'allow' | 'deny', request: AuthorizedRequest): boolean {
  const asked = all(rule, request);
  const excepted = rule.not === null ? false : all(rule.not, request);
  if (effect === 'allow') return both([asked, negated(excepted)]) === true;
  return asked === true && excepted !== true;
}

function all(wanted: AuthorizationConditions, request: AuthorizedRequest): Truth {
  const { peer, method, path, host, clientAddress } = request;
  return both([
    any(wanted.from, peer?.trustDomain == null ? null : peer.id, (pattern, id) =>
      pattern.endsWith('/*') ? id.startsWith(pattern.slice(0, -1)) : id === pattern,
    ),
    any(wanted.methods, method, (one, given) => one === given),
    any(wanted.paths, path, pathHolds),
    any(wanted.hosts, host === '' ? null : host, (pattern, given) =>
      pattern.startsWith('*.')
        ? new RegExp(`^.+\\.${pattern.slice(2).replaceAll('.', '\\.')}$`).test(given)
        : pattern === given,
    ),
    any(wanted.clientAddress, clientAddress === '' ? null : clientAddress, inNetwork),
    ...wanted.headers.map((pattern) => value(pattern, headerOf(request, pattern.name))),
    ...wanted.claims.map((pattern) => value(pattern, claimOf(request.claims, pattern.name))),
  ]);
}

function any<T, V>(list: readonly T[] | null, given: V | null, test: (item: T, given: V) => boolean): Truth {
  if (list === null) return true;
  return given === null ? 'unknown' : list.some((item) => test(item, given));
}

function pathHolds({ kind, value }: PathPattern, path: string): boolean {
  if (kind === 'exact') return path === value;
  if (kind === 'regex') return new RegExp(`^(?:${value})$`).test(path);
  const segments = value.split('/').filter((segment) => segment !== '');
  return segments.every((segment, index) => path.split('/')[index + 1] === segment);
}

/** IPv4 in whole bytes is all that the test writes. */
function inNetwork(cidr: string, address: string): boolean {
  const [network, bits] = cidr.split('/');
  const bytes = Number(bits ?? 32) / 8;
  return address.split('.').slice(0, bytes).join('.') === network.split('.').slice(0, bytes).join('.');
}

function value({ kind, value: wanted }: ValuePattern, given: readonly string[] | null): Truth {
  if (kind === 'present') return given !== null;
  if (kind === 'absent') return given === null;
  if (given === null) return 'unknown';
  return given.some((one) => {
    if (kind === 'exact') return one === wanted;
    return kind === 'prefix' ? one.startsWith(wanted) : new RegExp(`^(?:${wanted})$`).test(one);
  });
}

function headerOf({ headers }: AuthorizedRequest, name: string): readonly string[] | null {
  const given = headers[name];
  return given === undefined ? null : [String(given)];
}

function claimOf(claims: unknown, name: string): readonly string[] | null {
  let found: unknown = claims;
  for (const step of name.split('.')) found = (found as Record<string, unknown> | null | undefined)?.[step];
  if (found === undefined || found === null) return null;
  if (!Array.isArray(found)) return typeof found === 'object' ? [] : [String(found)];
  return found.length === 0 ? null : found.map(String);
}

function plainPath(path: string): string {
  if (!/%2F|%5C|[\\;]/.test(path)) return path;
  const kept: string[] = [];
  const segments = path
    .split(/%2F|%5C|[\\/]/)
    .slice(1)
    .map((segment) => segment.split(';')[0]);
  for (const segment of segments) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const folder = ['', '.', '..'].includes(segments.at(-1) ?? '');
  return kept.length === 0 ? '/' : `/${kept.join('/')}${folder ? '/' : ''}`;
}

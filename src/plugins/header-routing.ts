// Sends a request to a service or subset by what it carries: a header, a cookie or a verified claim. Runs last before forwarding.
import type { FastifyRequest } from 'fastify';
import { RE2JS } from 're2js';
import type { Static } from 'typebox';
import { cookieValue } from '../http/cookies.ts';
import { positionOf } from '../http/position.ts';
import { definePlugin, type OptionProblem, parseShare, Type, UNIT_PATTERNS } from '../plugin.ts';

const ValueMatch = Type.Union(
  [
    Type.String(),
    Type.Object({ exact: Type.String() }),
    Type.Object({ prefix: Type.String() }),
    Type.Object({ regex: Type.String() }),
  ],
  {
    description:
      'What it must be: exactly this text, or { prefix }, or { regex } (RE2, the whole value). Default: anything.',
  },
);

const Sticky = Type.Union(
  [
    Type.Literal('clientAddress'),
    Type.Object({ header: Type.String() }),
    Type.Object({ cookie: Type.String() }),
    Type.Object({ claim: Type.String() }),
  ],
  {
    description:
      'What keeps a client on its side of the share. A request without that header, cookie or claim goes by client address. Default: clientAddress.',
  },
);

const Rule = Type.Object({
  header: Type.Optional(Type.String({ description: 'Request header to look at.' })),
  cookie: Type.Optional(Type.String({ description: 'Cookie to look at.' })),
  claim: Type.Optional(
    Type.String({
      description:
        'Claim of `request.user`, set by the plugin that verified it; dots lead inside (`realm.group`); of a list, any element.',
    }),
  ),
  value: Type.Optional(ValueMatch),
  share: Type.Optional(
    Type.String({
      pattern: UNIT_PATTERNS.share,
      patternErrorMessage: 'must be a share such as 20%',
      description: 'Share of the matching requests, like 20%; the others go on to the next rule. Default: all.',
    }),
  ),
  sticky: Type.Optional(Sticky),
  to: Type.Object(
    { service: Type.Optional(Type.String()), subset: Type.Optional(Type.String()) },
    { description: 'Service, subset or both. Without `service`: the one that the route chooses.' },
  ),
});

type Rule = Static<typeof Rule>;
type Read = (request: FastifyRequest) => string | readonly string[] | null;

export default definePlugin(
  {
    name: 'header-routing',
    options: Type.Object({
      rules: Type.Array(Rule, {
        minItems: 1,
        description: 'The first rule that applies decides; when none does, the route itself.',
      }),
    }),
    check: ({ rules }) => rules.flatMap(ruleProblems),
    references: ({ rules }) =>
      rules.map(({ to }, index) => ({
        service: to.service ?? null,
        subset: to.subset ?? null,
        path: `rules[${index}].to`,
      })),
  },
  async (app, options) => {
    const rules = options.rules.map(compile);

    // In preHandler: whatever verifies claims has run, wherever it stands in the list.
    app.addHook('preHandler', (request, _reply, done) => {
      const rule = rules.find((candidate) => candidate.applies(request));
      if (rule !== undefined) request.selvedge.sendTo(rule.service, rule.subset);
      done();
    });
  },
);

function compile(rule: Rule) {
  const { to, share } = rule;
  const service = to.service ?? null;
  const subset = to.subset ?? null;
  const read = reader(rule);
  const accepts = valueTest(rule.value);
  const ceiling = share === undefined ? 1 : (parseShare(share) as number);
  const key = stickyKey(rule.sticky ?? 'clientAddress');
  // The target is in the hash, so that the shares of different targets cut the clients independently, and a raised share keeps its own.
  const salt = `${service ?? ''}/${subset ?? ''}/`;
  const applies = (request: FastifyRequest): boolean => {
    if (read !== null) {
      const value = read(request);
      if (value === null || !(typeof value === 'string' ? accepts(value) : value.some(accepts))) return false;
    }
    return ceiling === 1 || positionOf(salt + key(request)) < ceiling;
  };
  return { service, subset, applies };
}

/** Null for a rule that looks at nothing: its share alone decides. */
function reader({ header, cookie, claim }: { header?: string; cookie?: string; claim?: string }): Read | null {
  if (header !== undefined) return headerReader(header.toLowerCase());
  if (cookie !== undefined) return (request) => cookieValue(request.headers.cookie, cookie);
  if (claim !== undefined) return claimReader(claim);
  return null;
}

function headerReader(name: string): Read {
  return (request) => {
    const value = request.headers[name];
    if (typeof value === 'string') return value;
    // A name such as `constructor` finds something inherited that is no header.
    return Array.isArray(value) ? value.join(', ') : null;
  };
}

/** A claim of exactly that name comes first: names may hold dots (`https://example.com/group`). */
function claimReader(claim: string): Read {
  const path = claim.split('.');
  return (request) => {
    const { user } = request as { user?: unknown };
    const whole = own(user, claim);
    return texts(whole === undefined ? path.reduce(own, user) : whole);
  };
}

function own(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function texts(value: unknown): string | readonly string[] | null {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (!Array.isArray(value)) return null;
  return value.filter((item) => typeof item === 'string' || typeof item === 'number').map(String);
}

function valueTest(match: Rule['value']): (value: string) => boolean {
  if (match === undefined) return () => true;
  if (typeof match === 'string') return (value) => value === match;
  if ('exact' in match) return (value) => value === match.exact;
  if ('prefix' in match) return (value) => value.startsWith(match.prefix);
  const regex = RE2JS.compile(match.regex);
  return (value) => regex.matches(value);
}

function stickyKey(sticky: NonNullable<Rule['sticky']>): (request: FastifyRequest) => string {
  const read = sticky === 'clientAddress' ? null : reader(sticky);
  return (request) => {
    const value = read?.(request) ?? null;
    return value === null ? request.selvedge.clientAddress : String(value);
  };
}

function ruleProblems({ header, cookie, claim, value, share, sticky, to }: Rule, index: number): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const at = `rules[${index}]`;
  const sources = [header, cookie, claim].filter((source) => source !== undefined).length;
  if (sources > 1) problems.push({ path: at, message: 'looks at one of header, cookie and claim, not at several' });
  if (sources === 0 && value !== undefined)
    problems.push({ path: `${at}.value`, message: 'needs a header, cookie or claim to compare with' });
  if (sources === 0 && share === undefined)
    problems.push({ path: at, message: 'needs a header, cookie, claim or share: as it is, it takes every request' });
  if (to.service === undefined && to.subset === undefined)
    problems.push({ path: `${at}.to`, message: 'names neither a service nor a subset' });
  if (share !== undefined && parseShare(share) === null)
    problems.push({ path: `${at}.share`, message: `"${share}" is more than 100%` });
  if (sticky !== undefined && share === undefined)
    problems.push({ path: `${at}.sticky`, message: 'has a meaning only together with share' });
  if (typeof value === 'object' && 'regex' in value) {
    try {
      RE2JS.compile(value.regex);
    } catch (error) {
      problems.push({
        path: `${at}.value.regex`,
        message: `is not a regular expression of RE2: ${(error as Error).message}`,
      });
    }
  }
  return problems;
}

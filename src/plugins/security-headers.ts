// Tells browsers to be careful with the answers, those of Selvedge itself too; what the service says of its own accord stays, unless told otherwise.
import type { Static } from 'typebox';
import { headerChangeProblems } from '../http/header-changes.ts';
import { definePlugin, type OptionProblem, Type } from '../plugin.ts';
import { cameByHttps, hstsOption, hstsProblems, hstsValue } from './hsts.ts';

const CSP = 'content-security-policy';

/** CSP level 3 section 2.3.1, as far as ancestors go: a scheme, or a host with or without scheme, `*.` and port. */
const ANCESTOR =
  /^(?:[a-z][a-z0-9+.-]*:|(?:[a-z][a-z0-9+.-]*:\/\/)?(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::(?:\d{1,5}|\*))?)$/i;
/** What may be allowed to have a feature. */
const ALLOWED = /^(?:self|\*|https?:\/\/(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::\d{1,5})?)$/i;
const FEATURE = /^[a-z][a-z0-9-]{0,63}$/;

const either = <const T extends readonly string[]>(values: T, fallback: T[number] | false, description: string) =>
  Type.Union([...values.map((value) => Type.Literal(value as T[number])), Type.Literal(false)], {
    default: fallback,
    description,
  });

const Options = Type.Object({
  hsts: hstsOption,
  contentTypeOptions: Type.Boolean({ default: true, description: '`X-Content-Type-Options: nosniff`.' }),
  frameAncestors: Type.Union([Type.Array(Type.String(), { minItems: 1 }), Type.Literal(false)], {
    default: ['self'],
    description:
      'Who may put pages into a frame: `self`, `none`, or origins such as `https://*.example.com`. In `Content-Security-Policy`; `self` and `none` in `X-Frame-Options` too. `false`: not said.',
  }),
  contentSecurityPolicy: Type.Optional(
    Type.String({
      minLength: 1,
      description: '`Content-Security-Policy`, to which `frame-ancestors` is added if it has none. Default: only that.',
    }),
  ),
  referrerPolicy: either(
    [
      'no-referrer',
      'no-referrer-when-downgrade',
      'origin',
      'origin-when-cross-origin',
      'same-origin',
      'strict-origin',
      'strict-origin-when-cross-origin',
      'unsafe-url',
    ],
    'strict-origin-when-cross-origin',
    '`Referrer-Policy`. `false`: not sent.',
  ),
  permissionsPolicy: Type.Record(Type.String(), Type.Array(Type.String()), {
    default: {},
    description:
      '`Permissions-Policy` by feature: who may use it, `self`, `*` or origins; an empty list: nobody. `{ camera: [], geolocation: [self] }`.',
  }),
  crossOriginOpenerPolicy: either(
    ['same-origin', 'same-origin-allow-popups', 'noopener-allow-popups', 'unsafe-none'],
    false,
    '`Cross-Origin-Opener-Policy`. `false`: not sent.',
  ),
  crossOriginResourcePolicy: either(
    ['same-origin', 'same-site', 'cross-origin'],
    false,
    '`Cross-Origin-Resource-Policy`. `false`: not sent.',
  ),
  remove: Type.Array(Type.String(), {
    default: ['server', 'x-powered-by'],
    description: 'Headers to remove: what they tell helps nobody but attackers.',
  }),
  override: Type.Boolean({ default: false, description: 'Replace what the service says under these names.' }),
});
type Options = Static<typeof Options>;

export default definePlugin(
  { name: 'security-headers', options: Options, check: problemsOf, unrouted: true },
  async (app, options) => {
    const { override } = options;
    const remove = options.remove.map((name) => name.toLowerCase());
    const ancestors = ancestorsOf(options);
    const always = headersOf(options);
    const strict = hstsValue(options.hsts);
    const secure = strict === null ? always : [...always, ['strict-transport-security', strict] as const];

    app.addHook('onSend', (request, reply, payload, done) => {
      for (const name of remove) reply.removeHeader(name);
      const policy = reply.getHeader(CSP);
      // Beside a policy of the service ours is one more, and browsers keep to both.
      if (ancestors !== '' && policy !== undefined && !override && !namesAncestors([policy].flat().join(';')))
        reply.header(CSP, [policy, ancestors].flat().map(String));
      // RFC 6797 section 7.2: never over plain HTTP.
      for (const [name, value] of cameByHttps(request) ? secure : always)
        if (override || !reply.hasHeader(name)) reply.header(name, value);
      done(null, payload);
    });
  },
);

type Header = readonly [name: string, value: string];

function headersOf(options: Options): Header[] {
  const { frameAncestors, referrerPolicy, crossOriginOpenerPolicy, crossOriginResourcePolicy } = options;
  const frame = ancestorsOf(options) === '' ? '' : frameOptions(frameAncestors as string[]);
  const all: (readonly [string, string | false])[] = [
    ['x-content-type-options', options.contentTypeOptions && 'nosniff'],
    [CSP, contentSecurityPolicy(options)],
    ['x-frame-options', frame],
    ['referrer-policy', referrerPolicy],
    ['permissions-policy', permissionsPolicy(options.permissionsPolicy)],
    ['cross-origin-opener-policy', crossOriginOpenerPolicy],
    ['cross-origin-resource-policy', crossOriginResourcePolicy],
  ];
  return all.filter((header): header is Header => header[1] !== false && header[1] !== '');
}

/** It has no words for origins: browsers that know `frame-ancestors` pass it over anyway. */
function frameOptions(ancestors: readonly string[]): string {
  if (ancestors.length > 1) return '';
  return ancestors[0] === 'none' ? 'DENY' : ancestors[0] === 'self' ? 'SAMEORIGIN' : '';
}

function contentSecurityPolicy(options: Options): string {
  const policy = options.contentSecurityPolicy?.trim().replace(/;$/, '') ?? '';
  return [policy, ancestorsOf(options)].filter((part) => part !== '').join('; ');
}

/** Empty where nothing is said of them, or the policy says it. */
function ancestorsOf({ contentSecurityPolicy: policy = '', frameAncestors }: Options): string {
  if (frameAncestors === false || namesAncestors(policy)) return '';
  const sources = frameAncestors.map((one) => (one === 'self' || one === 'none' ? `'${one}'` : one));
  return `frame-ancestors ${sources.join(' ')}`;
}

function namesAncestors(policy: string): boolean {
  return policy.split(/[;,]/).some((directive) => /^frame-ancestors(?:\s|$)/i.test(directive.trim()));
}

function permissionsPolicy(features: Options['permissionsPolicy']): string {
  const quoted = (one: string): string => (one.includes(':') ? `"${one}"` : one);
  return Object.entries(features)
    .map(([feature, allowed]) => `${feature}=${allowed.includes('*') ? '*' : `(${allowed.map(quoted).join(' ')})`}`)
    .join(', ');
}

function problemsOf(options: Options): OptionProblem[] {
  const { hsts, frameAncestors, contentSecurityPolicy: policy, permissionsPolicy: features, remove } = options;
  const problems: OptionProblem[] = [...headerChangeProblems({ remove }, 'response'), ...hstsProblems(hsts)];
  const say = (path: string, message: string): void => void problems.push({ path, message });
  for (const [index, one] of (frameAncestors || []).entries()) {
    if (one === 'none' && (frameAncestors as string[]).length > 1)
      say(`frameAncestors[${index}]`, '"none" stands alone: nobody and somebody cannot both be meant');
    else if (!ANCESTOR.test(one))
      say(`frameAncestors[${index}]`, `"${one}" is neither self, none nor an origin such as https://*.example.com`);
  }
  // Its default gives way; what was written must not come to nothing.
  if (policy !== undefined && namesAncestors(policy) && frameAncestors !== false && String(frameAncestors) !== 'self')
    say('frameAncestors', '"contentSecurityPolicy" has frame-ancestors too: say it once');
  if (policy !== undefined && headerChangeProblems({ set: { p: policy } }, 'response').length > 0)
    say('contentSecurityPolicy', 'has line breaks, control characters, or space around it');
  for (const [feature, allowed] of Object.entries(features)) {
    if (!FEATURE.test(feature)) say(`permissionsPolicy.${feature}`, `"${feature}" is not the name of a feature`);
    for (const [index, one] of allowed.entries())
      if (!ALLOWED.test(one))
        say(`permissionsPolicy.${feature}[${index}]`, `"${one}" is neither self, * nor an origin`);
    if (allowed.includes('*') && allowed.length > 1)
      say(`permissionsPolicy.${feature}`, '"*" stands for everybody: leave the others out');
  }
  if (headersOf(options).length === 0 && hsts === false && remove.length === 0)
    say('', 'does nothing: every part of it is switched off');
  return problems;
}

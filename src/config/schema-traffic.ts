// The schema of what a route does beyond leading somewhere: further tries, sessions, rollouts and faults on purpose.
import * as Type from 'typebox/type';
import { FaultOptions } from '../policies/fault.ts';
import { HedgeOptions } from '../policies/hedge.ts';
import { RetryOptions } from '../policies/retry.ts';
import { choice, duration, flag, integer, list, object, share, text } from '../schema-parts.ts';

export const retry = Type.Union([Type.Literal(false, { description: 'Every request is tried once.' }), RetryOptions], {
  description:
    'When a failed try is followed by another. Not given: as the plugins of the chain say, else one retry of what never reached the service.',
  examples: [{ attempts: 2, on: ['connect-failure', 'reset', 'gateway-error'] }],
});

export const hedge = Type.Union(
  [Type.Literal(false, { description: 'No second try beside the first.' }), HedgeOptions],
  {
    description: 'A second try beside a first that is slow. Not given: none.',
    examples: [{ after: 'p95' }],
  },
);

export const fault = Type.Union(
  [Type.Literal(false, { description: 'None, whatever the gateway says.' }), FaultOptions],
  {
    description: 'Delays and errors on purpose, for tests of what callers make of them.',
    examples: [{ delay: { share: '5%', time: '2s' } }],
  },
);

/** Keys of a session that say something about its cookie; their defaults count where there is one. */
const COOKIE_KEYS = ['maxAge', 'sameSite', 'secure', 'httpOnly', 'secret'] as const;

export const session = Type.Object(
  {
    cookie: Type.Optional(
      text('Name of a cookie that Selvedge sets. It names the endpoint, signed, and no address.', {
        example: 'slv',
        minLength: 1,
      }),
    ),
    header: Type.Optional(
      text('Instead: a request header; the same value leads to the same endpoint.', {
        example: 'x-session',
        minLength: 1,
      }),
    ),
    maxAge: Type.Optional(
      duration('How long browsers keep the cookie. Not given: until they are closed.', { example: '1h' }),
    ),
    sameSite: Type.Optional(
      choice(['strict', 'lax', 'none'], 'Whether it comes with requests from other sites.', { default: 'lax' }),
    ),
    secure: Type.Optional(
      Type.Union([Type.Boolean(), Type.Literal('auto')], {
        description: 'Whether browsers send it by https only. `auto`: when the request came by https.',
        default: 'auto',
        examples: [true],
      }),
    ),
    httpOnly: Type.Optional(flag('Whether scripts of the page cannot read it.', { default: true })),
    secret: Type.Optional(
      text(
        'What the cookies are signed with, at least 16 characters. Not given: a random one, which no other process knows and no restart survives.',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a reference as configs write it.
        { example: '${file:/run/secrets/session}', secret: true },
      ),
    ),
  },
  {
    additionalProperties: false,
    dependencies: Object.fromEntries(COOKIE_KEYS.map((key) => [key, ['cookie']])),
    description:
      'Keeps a client at the endpoint that it had first, while that is up. Exactly one of `cookie` and `header`.',
    examples: [{ cookie: 'slv' }],
  },
);

const abortConditions = {
  errorRate: Type.Optional(share('More errors than this.', { example: '2%' })),
  p99: Type.Optional(duration('A slower 99th percentile of the response times.', { example: '500ms' })),
  minRequests: Type.Optional(
    integer('Requests to the new version that are needed to judge it.', {
      minimum: 1,
      maximum: 1_000_000,
      default: 50,
    }),
  ),
};

export const rollout = object(
  {
    from: text('The subset that has the requests so far.', { example: 'v1', minLength: 1 }),
    to: text('The subset that gets them.', { example: 'v2', minLength: 1 }),
    steps: Type.Optional(
      list(share('Share of the new version.', { example: '25%' }), 'Shares of the new version, ascending.', {
        minItems: 1,
        default: ['5%', '25%', '50%', '100%'],
      }),
    ),
    every: Type.Optional(duration('Time at each step.', { default: '2m', example: '2m' })),
    abortOn: Type.Optional(
      object(abortConditions, 'When everything goes back to the old version.', {
        default: {},
        example: { errorRate: '2%', p99: '500ms' },
      }),
    ),
    abort: Type.Optional(object(abortConditions, 'Another spelling of `abortOn`.', { example: { errorRate: '2%' } })),
  },
  'Moves the requests from one subset of the service to another by itself, step by step, and back when the new one is worse. The route leads `to` that service, without a subset.',
  { example: { from: 'v1', to: 'v2', abortOn: { errorRate: '2%' } } },
);

// The schema of what hops let their applications call beyond the mesh.
import * as Type from 'typebox/type';
import { choice, flag, list, name, object, port, text } from '../schema-parts.ts';

const path = Type.Union([
  text('A prefix by whole segments: `/v1` matches `/v1/charges`, never `/v10`.', { example: '/v1', minLength: 1 }),
  object(
    {
      exact: Type.Optional(text('The whole path.', { example: '/v1/charges', minLength: 1 })),
      prefix: Type.Optional(text('The first segments of the path.', { example: '/v1', minLength: 1 })),
      regex: Type.Optional(text('RE2 expression for the whole path.', { example: '/v1/[a-z]+', minLength: 1 })),
    },
    'Exactly one of these.',
    { minProperties: 1, maxProperties: 1 },
  ),
]);

const rule = (what: string, cidrs: string) =>
  object(
    {
      name: Type.Optional(name('For logs and metrics. Not given: its place, such as `egress.allow[0]`.', 'stripe')),
      from: Type.Optional(
        list(Type.String(), 'Whose calls: `service/NAME`, or `service/*` for every hop.', {
          minItems: 1,
          default: ['service/*'],
          example: ['service/cart'],
        }),
      ),
      hosts: Type.Optional(
        list(Type.String(), 'Names or addresses that are asked for; `*.example.com` is any name below it. None: any.', {
          default: [],
          example: ['api.stripe.com'],
        }),
      ),
      ports: Type.Optional(list(port('', { any: false }), 'Ports. None: any.', { default: [], example: [443] })),
      cidrs: Type.Optional(list(Type.String(), cidrs, { default: [], example: ['10.20.0.0/16'] })),
      methods: Type.Optional(
        list(Type.String(), 'HTTP methods, in capitals. None: any. What is inside a tunnel nobody sees.', {
          default: [],
          example: ['GET'],
        }),
      ),
      paths: Type.Optional(
        list(path, 'Paths, any of them. None: any. What is inside a tunnel nobody sees.', {
          default: [],
          example: ['/v1'],
        }),
      ),
      ...(what === 'allow'
        ? {
            tls: Type.Optional(
              flag(
                'Whether a tunnel (CONNECT) must carry TLS that names the host it was opened for. `false`: it may carry anything.',
                { default: true },
              ),
            ),
          }
        : {}),
    },
    'Calls that meet all of these.',
    { example: { from: ['service/cart'], hosts: ['api.stripe.com'], ports: [443] } },
  );

const allowRule = rule(
  'allow',
  'Networks that the name may resolve to, and no others. Loopback, link-local and private addresses are reached only where this lists them. None: any public address.',
);
const denyRule = rule('deny', 'Networks that must not be reached. None: whatever the name resolves to.');

export const egress = object(
  {
    default: Type.Optional(
      choice(['deny', 'allow'], 'What becomes of calls that no rule is about; `allow` means public addresses.', {
        default: 'deny',
      }),
    ),
    audit: Type.Optional(
      flag(
        'Lets through what would be denied, and counts and logs it. Loopback, link-local and metadata addresses stay closed.',
        { default: false },
      ),
    ),
    deny: Type.Optional(
      list(denyRule, 'What is never let through; looked at first.', { default: [], example: [{ ports: [25] }] }),
    ),
    allow: Type.Optional(
      list(allowRule, 'What is let through.', {
        default: [],
        example: [{ from: ['service/cart'], hosts: ['api.stripe.com'], ports: [443] }],
      }),
    ),
  },
  'What hops let their applications call beyond the mesh. Not given: nothing.',
  { example: { allow: [{ from: ['service/cart'], hosts: ['api.stripe.com'], ports: [443] }] } },
);

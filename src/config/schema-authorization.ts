// The schema of who may call what: `authorization` at the top, and the same at a service.
import * as Type from 'typebox/type';
import { flag, list, name, object, text } from '../schema-parts.ts';
import { valueMatch } from './schema-route.ts';

const path = Type.Union([
  text('A prefix by whole segments: `/orders` holds for `/orders/1`, never for `/orders2`.', {
    example: '/orders',
    minLength: 1,
  }),
  object(
    {
      exact: Type.Optional(text('The whole path.', { example: '/orders', minLength: 1 })),
      prefix: Type.Optional(text('The first segments of the path.', { example: '/orders', minLength: 1 })),
      regex: Type.Optional(text('RE2 expression for the whole path.', { example: '/orders/[0-9]+', minLength: 1 })),
    },
    'Exactly one of these.',
    { minProperties: 1, maxProperties: 1 },
  ),
]);

const conditions = {
  from: Type.Optional(
    list(
      Type.String({ minLength: 1 }),
      'Callers by their certificates: `service/cart`, `gateway/public`, `service/*`, `gateway/*`, `*` for anybody of this mesh; of another trust domain `spiffe://partner.internal/service/x`, or with `/*` at the end.',
      { example: ['service/cart', 'gateway/public'] },
    ),
  ),
  methods: Type.Optional(list(Type.String(), 'HTTP methods, in capitals.', { example: ['GET', 'HEAD'] })),
  paths: Type.Optional(
    list(path, 'Paths, as in the matches of routes; judged as they are sent, before rewrites.', {
      example: ['/orders', { exact: '/health' }],
    }),
  ),
  hosts: Type.Optional(
    list(Type.String(), 'Host names; `*.` at the front stands for one label or more.', {
      example: ['shop.example.com', '*.shop.example.com'],
    }),
  ),
  headers: Type.Optional(valueMatch('Headers', { 'x-group': 'beta', 'x-old': { absent: true } })),
  claims: Type.Optional(
    valueMatch('Claims that a plugin has verified (`request.user`; dots lead inside; of a list any element)', {
      sub: { present: true },
      'realm.roles': 'admin',
    }),
  ),
  clientAddress: Type.Optional(
    list(Type.String(), 'Networks that the client is in.', { example: ['10.0.0.0/8', '2001:db8::1'] }),
  ),
};

const rule = object(
  {
    ...conditions,
    not: Type.Optional(object(conditions, 'Conditions that must not all hold.', { example: { methods: ['DELETE'] } })),
  },
  'Conditions that must all hold; of a list any.',
  { example: { from: ['service/cart'], methods: ['GET'] } },
);

const policy = {
  name: name('Unique; the log names it.', 'cart-may-read-orders'),
  allow: Type.Optional(
    list(rule, 'Whoever a rule of any such policy holds for is let in, everybody else denied.', {
      example: [{ from: ['service/cart'], methods: ['GET'], paths: ['/orders'] }],
    }),
  ),
  deny: Type.Optional(
    list(rule, 'Whoever a rule holds for is denied, whatever is allowed.', { example: [{ paths: ['/admin'] }] }),
  ),
  audit: Type.Optional(flag('Only logs and counts what it would have denied.', { default: false, example: true })),
};

export const authorization = list(
  object(
    {
      ...policy,
      service: Type.Optional(
        text('The service whose hop applies it; `*`: every one.', { example: 'orders', minLength: 1 }),
      ),
      gateway: Type.Optional(text('The gateway that applies it; `*`: every one.', { example: 'public', minLength: 1 })),
    },
    'One policy: `allow` or `deny` for a `service` or a `gateway`.',
  ),
  'Who may call what. First `deny`, then `allow`; once any `allow` is there for a service or gateway, what none of them names is denied.',
  {
    default: [],
    example: [{ name: 'cart-may-read-orders', service: 'orders', allow: [{ from: ['service/cart'] }] }],
  },
);

export const serviceAuthorization = list(
  object(policy, 'One policy for this service: `allow` or `deny`.'),
  'Who may call this service: as `authorization` at the top, without `service`.',
  { default: [], example: [{ name: 'cart-may-read-orders', allow: [{ from: ['service/cart'] }] }] },
);

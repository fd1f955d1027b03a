// The options of the oidc plugin: who is trusted to say who somebody is, and how long it holds.
import type { Static } from 'typebox';
import { Type, UNIT_PATTERNS } from '../../plugin.ts';
import { type Algorithm, ASYMMETRIC } from '../jwt/keys.ts';

const duration = (fallback: string, description: string) =>
  Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 30s, 15m or 8h',
    default: fallback,
    description,
  });
const text = (description: string, more: { readonly writeOnly?: true } = {}) =>
  Type.String({ minLength: 1, description, ...more });
const SECRET = { writeOnly: true } as const;
const scope = Type.String({
  pattern: '^[\\x21\\x23-\\x5b\\x5d-\\x7e]+$',
  patternErrorMessage: 'must be a scope without spaces and quotes',
});
const scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);
const oneOrMore = (description: string, more: { readonly writeOnly?: true } = {}) =>
  Type.Union(
    [Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: 10 })],
    { description, ...more },
  );

export const oidcOptions = Type.Object({
  issuer: text('The OpenID provider: its issuer URL, exactly as its discovery document has it.'),
  clientId: text('As whom this gateway is registered there.'),
  clientSecret: Type.Optional(
    text('What it proves that with. Default: none, a public client, or `privateKey`.', SECRET),
  ),
  clientAuthentication: Type.Optional(
    Type.Union([Type.Literal('client_secret_basic'), Type.Literal('client_secret_post')], {
      description: 'How the secret is shown. Default: `client_secret_basic`.',
    }),
  ),
  privateKey: Type.Optional(
    text('Private key as PEM with which assertions are signed (`private_key_jwt`), instead of a secret.', SECRET),
  ),
  keyId: Type.Optional(text('`kid` of those assertions, where the provider has several keys of this client.')),
  baseUrl: oneOrMore(
    'Where browsers see this gateway: `https://shop.example.com`. Of several, the one whose host the request names, else the first. Nothing is made up from the Host header.',
  ),
  callbackPath: Type.String({
    default: '/oauth2/callback',
    description:
      'Path to which the provider sends browsers back, never forwarded. Register `baseUrl` with this path there.',
  }),
  scopes: Type.Array(scope, {
    default: ['openid'],
    description:
      'What is asked for; `openid` must be among it, and `offline_access` gets a refresh token of many providers.',
  }),
  authorizationParams: Type.Record(Type.String(), Type.String(), {
    default: {},
    description: 'Further parameters of the authorization request, such as `prompt`, `audience` or `acr_values`.',
  }),
  algorithms: Type.Optional(
    Type.Array(Type.Unsafe<Algorithm>(Type.Union(ASYMMETRIC.map((name) => Type.Literal(name)))), {
      minItems: 1,
      description: 'How ID tokens may be signed. Default: RS, PS and ES with 256, 384 and 512, and EdDSA.',
    }),
  ),
  clockSkew: duration('60s', "How far the provider's clock and ours may be apart."),
  timeout: duration('5s', 'How long one answer of the provider may take.'),
  cookieSecret: oneOrMore(
    'Secret that encrypts cookies, at least 32 bytes. Of several the first encrypts and all decrypt, so that it can be changed.',
    SECRET,
  ),
  cookie: Type.Object(
    {
      name: Type.String({
        default: 'selvedge_oidc',
        pattern: '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$',
        patternErrorMessage: 'must be up to 64 of A-Z a-z 0-9 _ -',
        description: 'What the cookies are called, after `__Host-` or `__Secure-` where these can be.',
      }),
      domain: Type.Optional(
        text('Domain whose hosts all get the session, such as `example.com`. Default: only the host that logged in.'),
      ),
      path: Type.String({ default: '/', description: 'Path below which the session is sent.' }),
      sameSite: Type.Union([Type.Literal('Lax'), Type.Literal('None')], {
        default: 'Lax',
        description:
          '`None` lets pages of other sites send it too, as frames need it: then the service has to defend itself against forged requests.',
      }),
      secure: Type.Optional(
        Type.Boolean({ description: 'Send cookies over https alone. Default: when `baseUrl` is https.' }),
      ),
    },
    { default: {}, description: 'The cookies that hold the session, encrypted.' },
  ),
  session: Type.Object(
    {
      maxAge: duration('8h', 'How long after the login it ends, whatever happens.'),
      idle: duration('1h', 'How long without a request until it ends; counted to a tenth of it.'),
    },
    { default: {}, description: 'How long a login holds.' },
  ),
  requiredScopes: Type.Array(scope, { default: [], description: 'Scopes that must have been granted, all of them.' }),
  claims: Type.Record(
    Type.String(),
    Type.Union([scalar, Type.Array(scalar, { minItems: 1 }), Type.Object({ present: Type.Literal(true) })]),
    {
      default: {},
      description:
        'Claims that the ID token must have, with their value, several of which one is enough, or { present: true }; dots lead inside (`realm.group`), of a claim that is a list any element.',
    },
  ),
  claimsToHeaders: Type.Record(Type.String(), Type.String(), {
    default: {},
    description:
      'Claims that the service is told, and in which headers; what a client has written there is removed. Dots lead inside, a list is joined with commas.',
  }),
  accessTokenHeader: Type.Optional(
    text('Header in which the service gets the access token; `authorization`: as Bearer. Default: it is not kept.'),
  ),
  logout: Type.Object(
    {
      path: Type.String({ default: '/oauth2/logout', description: 'Path that ends the session, never forwarded.' }),
      redirectTo: Type.String({
        default: '/',
        description: 'Where the browser goes then: a path, or a URL that the provider knows.',
      }),
      provider: Type.Boolean({
        default: true,
        description: 'End the session at the provider too, where it has an `end_session_endpoint`.',
      }),
    },
    { default: {}, description: 'How people log out.' },
  ),
});

export type OidcOptions = Static<typeof oidcOptions>;

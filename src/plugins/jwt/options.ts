// The options of the jwt plugin, and the issuers that they come to.
import type { Static } from 'typebox';
import { Type, UNIT_PATTERNS } from '../../plugin.ts';
import { type Algorithm, ASYMMETRIC, type KeySet, parseKeys, SYMMETRIC, secretKeys } from './keys.ts';
import type { TokenPlace } from './token.ts';

/** For what fetches keys. */
const DEFAULT_DIR = '.selvedge/jwks';

const duration = (fallback: string, description: string) =>
  Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 60s or 10m',
    default: fallback,
    description,
  });
const text = (description: string) => Type.String({ minLength: 1, description });
const algorithm = Type.Unsafe<Algorithm>(Type.Union([...ASYMMETRIC, ...SYMMETRIC].map((name) => Type.Literal(name))));
const scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);

export const issuerFields = {
  audience: Type.Optional(
    Type.Union(
      [Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 }), Type.Literal(false)],
      {
        description:
          'Whom tokens must be meant for (`aud`); one of a list is enough. Required: without it tokens for any other service of the issuer would do here. `false`: they may be for anybody.',
      },
    ),
  ),
  jwks: Type.Optional(
    text(
      "URL of the issuer's JWK set. Without it, `keys` and `secret`: what the issuer's OpenID Connect discovery document says.",
    ),
  ),
  keys: Type.Optional(
    text('Public keys instead of a URL: PEM (also certificates), a JWK or a JWK set, as text, such as that of a file.'),
  ),
  secret: Type.Optional(
    Type.String({
      minLength: 1,
      writeOnly: true,
      description:
        'Shared secret for tokens signed with HS256, HS384 or HS512, at least as long as the hash; who knows it can make tokens.',
    }),
  ),
  algorithms: Type.Optional(
    Type.Array(algorithm, {
      minItems: 1,
      description:
        'How tokens may be signed: RS, PS and ES with 256, 384 and 512, EdDSA; HS with `secret` only. Default: all of them that are asymmetric; with `secret`, HS256.',
    }),
  ),
  allowHttp: Type.Optional(
    Type.Boolean({
      description:
        'Take keys over http from other machines too. Default: no; whoever can change them on the way can sign tokens.',
    }),
  ),
};

export const jwtOptions = Type.Object({
  issuer: Type.Optional(text('Who issues the tokens: exactly their `iss`. Without `issuers`, required.')),
  ...issuerFields,
  issuers: Type.Optional(
    Type.Array(Type.Object({ issuer: text('As above, and so are the others.'), ...issuerFields }), {
      minItems: 1,
      description: 'Several issuers side by side, instead of the options above.',
    }),
  ),
  jwksCache: duration('10m', 'How old keys become before they are fetched again, in the background.'),
  jwksDir: Type.Union([Type.String({ minLength: 1 }), Type.Literal(false)], {
    default: DEFAULT_DIR,
    description:
      'Folder in which the last good keys of issuers are kept over a restart, relative to the one that the process runs in. `false`: they are not kept.',
  }),
  clockSkew: duration(
    '60s',
    "How far the issuer's clock and ours may be apart: `exp` and `nbf` are taken that loosely.",
  ),
  token: Type.Optional(
    Type.Object(
      {
        header: Type.Optional(text('A header: `Authorization` with the scheme Bearer, any other with or without it.')),
        cookie: Type.Optional(text('A cookie.')),
        query: Type.Optional(
          text('A parameter of the query; it ends up in logs of others, so only where nothing else can be.'),
        ),
      },
      { description: 'Where the token is: one of header, cookie and query. Default: the `Authorization` header.' },
    ),
  ),
  optional: Type.Boolean({
    default: false,
    description:
      'Let requests without a token through, with no claims. One with a token that is not good is refused all the same.',
  }),
  scopes: Type.Array(
    Type.String({
      pattern: '^[\\x21\\x23-\\x5b\\x5d-\\x7e]+$',
      patternErrorMessage: 'must be a scope without spaces and quotes',
    }),
    {
      default: [],
      description: 'Scopes that the token must have, all of them.',
    },
  ),
  scopeClaim: Type.Optional(
    text(
      'Claim that has the scopes, separated by spaces or as a list; dots lead inside. Default: `scope`, or else `scp`.',
    ),
  ),
  claims: Type.Record(
    Type.String(),
    Type.Union([scalar, Type.Array(scalar, { minItems: 1 }), Type.Object({ present: Type.Literal(true) })]),
    {
      default: {},
      description:
        'Claims that the token must have, with their value, several of which one is enough, or { present: true }; dots lead inside (`realm.group`), of a claim that is a list any element.',
    },
  ),
  claimsToHeaders: Type.Record(Type.String(), Type.String(), {
    default: {},
    description:
      'Claims that the service is told, and in which headers; what a client has written there is removed. Dots lead inside, a list is joined with commas.',
  }),
});

export type JwtOptions = Static<typeof jwtOptions>;
export type IssuerOptions = NonNullable<JwtOptions['issuers']>[number];

/** An issuer as the config has it, nothing opened or fetched. */
export interface WrittenIssuer {
  readonly issuer: string;
  readonly audience: readonly string[] | null;
  readonly algorithms: readonly Algorithm[];
  /** Null: they are fetched, from `jwks` or where the issuer says. */
  readonly keys: KeySet | null;
  readonly jwks: string | null;
  readonly allowHttp: boolean;
}

/** Options that passed the check. */
export function writtenIssuers(options: JwtOptions): readonly WrittenIssuer[] {
  return listed(options).map(({ issuer, audience, jwks = null, keys, secret, algorithms, allowHttp = false }) => {
    const allowed = algorithms ?? (secret === undefined ? ASYMMETRIC : (['HS256'] as const));
    return {
      issuer,
      audience: audience === false || audience === undefined ? null : [audience].flat(),
      algorithms: allowed,
      keys: secret !== undefined ? secretKeys(secret, allowed) : keys !== undefined ? parseKeys(keys) : null,
      jwks,
      allowHttp,
    };
  });
}

function listed(options: JwtOptions): readonly IssuerOptions[] {
  return options.issuers ?? [options as IssuerOptions];
}

export function tokenPlace({ token = {} }: JwtOptions): TokenPlace {
  if (token.cookie !== undefined) return { kind: 'cookie', name: token.cookie };
  if (token.query !== undefined) return { kind: 'query', name: token.query };
  return { kind: 'header', name: (token.header ?? 'authorization').toLowerCase() };
}

// What `selvedge check` says of options of the jwt plugin.
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { testChain } from '../../support/chain.ts';
import { AUDIENCE, ISSUER, jwkSet, signer } from './support.ts';

const EC = signer('ES256');
const BASE = { issuer: ISSUER, audience: AUDIENCE, keys: EC.pem };
const SECRET = 'a secret of at least thirty-two bytes';

async function problemsOf(options: Record<string, unknown>): Promise<string> {
  try {
    const chain = await testChain([['jwt', options]]);
    await chain.close();
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const cases: [name: string, options: Record<string, unknown>, message: RegExp][] = [
  ['no issuer', {}, /jwt needs an "issuer"|jwt: needs an "issuer"/],
  ['no audience', { ...BASE, audience: undefined }, /jwt\.audience.*is missing/],
  ['an unknown option', { ...BASE, jwksCash: '1m' }, /unknown key "jwksCash"/],
  [
    'an issuer that is no URL and nothing else',
    { issuer: 'me', audience: 'x' },
    /jwt\.issuer.*not an https URL.*"keys"/,
  ],
  ['keys over http', { issuer: ISSUER, audience: 'x', jwks: 'http://id.example.com/' }, /jwt\.jwks.*use https/],
  ['two sources of keys', { ...BASE, jwks: 'https://x/' }, /jwt\.keys.*cannot stand beside "jwks"/],
  ['keys that are no keys', { ...BASE, keys: 'hello' }, /jwt\.keys.*neither PEM nor a JWK set/],
  ['keys that are broken', { ...BASE, keys: EC.pem.replace(/M../, 'AAA') }, /jwt\.keys.*key 1 cannot be used/],
  ['keys that are broken JSON', { ...BASE, keys: '{' }, /jwt\.keys.*not JSON/],
  [
    'a private key',
    { ...BASE, keys: EC.privateKey.export({ type: 'pkcs8', format: 'pem' }) },
    /jwt\.keys.*private key/,
  ],
  [
    'a private JWK',
    { ...BASE, keys: JSON.stringify(EC.privateKey.export({ format: 'jwk' })) },
    /jwt\.keys.*has its private part/,
  ],
  [
    'a weak key',
    {
      ...BASE,
      keys: generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey.export({ type: 'spki', format: 'pem' }),
    },
    /jwt\.keys.*too weak/,
  ],
  ['an algorithm without a key', { ...BASE, algorithms: ['ES256', 'RS256'] }, /algorithms\[1\].*none of the keys/],
  [
    'a key without an algorithm',
    { ...BASE, keys: jwkSet(EC, signer('RS256')), algorithms: ['ES256'] },
    /key 2 is for RS256/,
  ],
  ['HS with a public key', { ...BASE, algorithms: ['HS256'] }, /algorithms\[0\].*needs a "secret"/],
  ['HS with a JWK set', { issuer: ISSUER, audience: 'x', algorithms: ['HS256'] }, /algorithms\[0\].*needs a "secret"/],
  ['a secret for RS', { ...BASE, keys: undefined, secret: SECRET, algorithms: ['RS256'] }, /needs public keys/],
  ['a public key as secret', { ...BASE, keys: undefined, secret: EC.pem }, /jwt\.secret.*belong into "keys"/],
  ['a JWK as secret', { ...BASE, keys: undefined, secret: JSON.stringify(EC.jwk) }, /jwt\.secret.*belong into "keys"/],
  ['a short secret', { ...BASE, keys: undefined, secret: 'short' }, /jwt\.secret.*at least 32 bytes/],
  ['a secret too short for HS512', { ...BASE, keys: undefined, secret: SECRET, algorithms: ['HS512'] }, /at least 64/],
  ['alg none', { ...BASE, algorithms: ['none'] }, /jwt\.algorithms/],
  ['allowHttp for nothing', { ...BASE, allowHttp: true }, /jwt\.allowHttp.*does nothing/],
  ['an issuer twice', { issuers: [BASE, BASE] }, /issuers\[1\]\.issuer.*twice/],
  ['an issuer beside issuers', { ...BASE, issuers: [BASE] }, /jwt\.issuer.*"issuers"[\s\S]*jwt\.keys/],
  ['one of issuers wrong', { issuers: [BASE, { issuer: 'x', audience: false }] }, /issuers\[1\]\.issuer/],
  ['no cache', { ...BASE, jwksCache: '0s' }, /jwt\.jwksCache.*at least 1s/],
  ['clocks far apart', { ...BASE, clockSkew: '1h' }, /jwt\.clockSkew.*at most 10m/],
  ['two places', { ...BASE, token: { cookie: 'a', query: 'b' } }, /jwt\.token.*one of/],
  ['no place', { ...BASE, token: {} }, /jwt\.token.*one of/],
  ['no header', { ...BASE, token: { header: 'a b' } }, /jwt\.token\.header.*not a header name/],
  ['a claim of scopes for nothing', { ...BASE, scopeClaim: 'scp' }, /jwt\.scopeClaim.*does nothing/],
  ['a scope with a quote', { ...BASE, scopes: ['a"b'] }, /jwt\.scopes\[0\]/],
  ['no header name', { ...BASE, claimsToHeaders: { sub: 'x y' } }, /claimsToHeaders\.sub.*not a header name/],
  ['a header of the connection', { ...BASE, claimsToHeaders: { sub: 'Connection' } }, /belongs to the connection/],
  ['a header of the proxy', { ...BASE, claimsToHeaders: { sub: 'x-forwarded-for' } }, /set by Selvedge/],
  ['a header twice', { ...BASE, claimsToHeaders: { sub: 'x-a', iss: 'X-A' } }, /claimsToHeaders\.iss.*twice/],
  ['the header of the token', { ...BASE, claimsToHeaders: { sub: 'Authorization' } }, /before they are read/],
  [
    'another header of the token',
    { ...BASE, token: { header: 'X-Token' }, claimsToHeaders: { sub: 'x-token' } },
    /before they are read/,
  ],
];

for (const [name, options, message] of cases)
  t.test(`refused: ${name}`, async (t) => {
    t.match(await problemsOf(JSON.parse(JSON.stringify(options))), message);
  });

t.test('accepted', async (t) => {
  for (const options of [
    BASE,
    { ...BASE, algorithms: ['ES256'] },
    { ...BASE, keys: undefined, secret: SECRET },
    { issuer: 'me', audience: false, keys: jwkSet(EC, signer('RS256')) },
    { issuers: [{ ...BASE, audience: ['a', 'b'] }] },
    {
      ...BASE,
      token: { cookie: 'session' },
      scopes: ['a:b'],
      scopeClaim: 'x',
      claims: { a: [1, 'b'], c: { present: true } },
    },
  ])
    t.equal(await problemsOf(JSON.parse(JSON.stringify(options))), '');
});

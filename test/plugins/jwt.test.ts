// The jwt plugin in a chain: which tokens get past it, what the others are answered, and what the service is told.
import { sign } from 'node:crypto';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { SharedStore } from '../../src/runtime/shared.ts';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';
import { AUDIENCE, hmacToken, ISSUER, jwkSet, part, seconds, signer, token } from './jwt/support.ts';

const RSA = signer('RS256');
const EC = signer('ES256');
const ED = signer('EdDSA');
const BASE = { issuer: ISSUER, audience: AUDIENCE, keys: jwkSet(RSA, EC, ED) };

async function chainOf(t: Test, options: object = {}, more: ChainOptions = {}) {
  const chain = await testChain([['jwt', { ...BASE, ...options }]], more);
  t.teardown(() => chain.close());
  const ask = async (jwt: string | null, headers: Record<string, string> = {}, url = '/') => {
    const authorization = jwt === null ? {} : { authorization: `Bearer ${jwt}` };
    const response = await chain.inject({ url, headers: { ...authorization, ...headers } });
    const { because } = chain.exchanges[chain.exchanges.length - 1];
    return { status: response.statusCode, because, challenge: response.headers['www-authenticate'], response };
  };
  return { ...chain, ask };
}

const INVALID = { status: 401, challenge: 'Bearer realm="selvedge", error="invalid_token"' };

t.test('a token that the issuer signed lets a request through, with every algorithm there is', async (t) => {
  for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']) {
    const by = signer(alg);
    const { ask } = await chainOf(t, { keys: jwkSet(by), algorithms: [alg] });
    t.match(await ask(token(by)), { status: 200, because: null }, alg);
    t.match(await ask(token(signer(alg))), { ...INVALID, because: 'jwt_signature' }, `${alg} of somebody else`);
  }
});

t.test('keys may be PEM, several in one text, whatever name a token gives its key', async (t) => {
  const { ask } = await chainOf(t, { keys: `${RSA.pem}\n${EC.pem}` });
  t.match(await ask(token(RSA)), { status: 200 });
  t.match(await ask(token(EC, {}, { kid: undefined })), { status: 200 });
  t.match(await ask(token(ED)), { ...INVALID, because: 'jwt_unknown_key' });
});

t.test('forged tokens', async (t) => {
  const { ask, sent } = await chainOf(t);
  const good = token(RSA);
  const [header, payload, signature] = good.split('.');
  const thief = signer('RS256', RSA.kid);
  const unsigned = (alg: string) => `${part({ alg, typ: 'JWT', kid: RSA.kid })}.${payload}`;
  const forged: Record<string, [string, string]> = {
    'alg none': [`${unsigned('none')}.`, 'algorithm'],
    'alg None': [`${unsigned('None')}.`, 'algorithm'],
    'alg NONE': [`${unsigned('NONE')}.`, 'algorithm'],
    'alg nOnE, with a signature': [`${unsigned('nOnE')}.${signature}`, 'algorithm'],
    'alg none with a space': [`${unsigned('none ')}.`, 'algorithm'],
    'alg null': [`${part({ alg: null, kid: RSA.kid })}.${payload}.${signature}`, 'algorithm'],
    'alg as a list': [`${part({ alg: ['RS256'], kid: RSA.kid })}.${payload}.${signature}`, 'algorithm'],
    'alg in other case': [token(RSA, {}, { alg: 'rs256' }), 'algorithm'],
    'alg that everything inherits': [`${unsigned('constructor')}.${signature}`, 'algorithm'],
    'ES256 for the RSA key': [hmacToken('HS512', RSA.pem, {}, { alg: 'ES256', kid: RSA.kid }), 'algorithm'],
    'HS512 with the public key in DER as its secret': [
      hmacToken(
        'HS512',
        RSA.publicKey.export({ type: 'spki', format: 'der' }).toString('latin1'),
        {},
        { kid: RSA.kid },
      ),
      'algorithm',
    ],
    'alg none with a signature': [`${unsigned('none')}.${signature}`, 'algorithm'],
    'no alg': [`${part({ typ: 'JWT' })}.${payload}.${signature}`, 'algorithm'],
    'HS256 with the public key as its secret': [hmacToken('HS256', RSA.pem, {}, { kid: RSA.kid }), 'algorithm'],
    'HS256 with the JWK as its secret': [
      hmacToken('HS256', JSON.stringify(RSA.jwk), {}, { kid: RSA.kid }),
      'algorithm',
    ],
    'HS256 with nothing as its secret': [hmacToken('HS256', '', {}, { kid: RSA.kid }), 'algorithm'],
    'a key of its own as jwk': [token(thief, {}, { jwk: thief.jwk }), 'signature'],
    'a key of its own as jwk, without a name': [token(thief, {}, { jwk: thief.jwk, kid: undefined }), 'signature'],
    'a jku': [token(thief, {}, { jku: 'http://127.0.0.1:1/jwks.json' }), 'signature'],
    'an x5u': [token(thief, {}, { x5u: 'http://127.0.0.1:1/cert.pem' }), 'signature'],
    'an x5t': [token(thief, {}, { x5t: 'AAAA', 'x5t#S256': 'AAAA' }), 'signature'],
    'a certificate of its own as x5c': [
      token(thief, {}, { x5c: [thief.pem.split('\n').slice(1, -2).join('')] }),
      'signature',
    ],
    'jwk, jku, x5u and x5c at once': [
      token(thief, {}, { jwk: thief.jwk, jku: 'http://127.0.0.1:1/', x5u: 'http://127.0.0.1:1/', x5c: [] }),
      'signature',
    ],
    'an x5c': [token(thief, {}, { x5c: ['AAAA'] }), 'signature'],
    'a kid that leads through folders': [token(thief, {}, { kid: '../../../../dev/null' }), 'unknown_key'],
    'a kid that is SQL': [token(thief, {}, { kid: "x' UNION SELECT 'k" }), 'unknown_key'],
    'a kid that everything inherits': [token(thief, {}, { kid: 'constructor' }), 'unknown_key'],
    'a kid that is a URL': [token(thief, {}, { kid: 'http://127.0.0.1:1/jwks.json' }), 'unknown_key'],
    'a kid that ends a string': [token(thief, {}, { kid: `${RSA.kid}\u0000` }), 'unknown_key'],
    'a kid that is a command': [token(thief, {}, { kid: '$(id)|`id`' }), 'unknown_key'],
    'a kid with other letters': [token(thief, {}, { kid: RSA.kid.replace('S', '\u017f') }), 'unknown_key'],
    'an empty kid': [token(thief, {}, { kid: '' }), 'unknown_key'],
    'a kid that is __proto__': [token(thief, {}, { kid: '__proto__' }), 'unknown_key'],
    'a kid that is a number': [token(RSA, {}, { kid: 1 }), 'malformed'],
    'a kid that is an object': [token(RSA, {}, { kid: { toString: RSA.kid } }), 'malformed'],
    'a kid that is true': [token(RSA, {}, { kid: true }), 'malformed'],
    'a kid that is a list': [token(thief, {}, { kid: [RSA.kid] }), 'malformed'],
    'a kid without end': [token(thief, {}, { kid: 'k'.repeat(300) }), 'malformed'],
    'another algorithm for the key': [token({ ...RSA, alg: 'PS256' }, {}, { alg: 'ES256' }), 'algorithm'],
    'no signature': [`${header}.${payload}.`, 'signature'],
    'the signature of another token': [
      `${header}.${part({ iss: ISSUER, aud: AUDIENCE, exp: 9e9, sub: 'root' })}.${signature}`,
      'signature',
    ],
    'an empty ECDSA signature': [
      `${part({ alg: 'ES256', kid: EC.kid })}.${payload}.${Buffer.alloc(64).toString('base64url')}`,
      'signature',
    ],
  };
  for (const [name, [jwt, reason]] of Object.entries(forged))
    t.match(await ask(jwt), { ...INVALID, because: `jwt_${reason}` }, name);
  t.equal(sent.length, 0, 'nothing reached the service');
});

t.test('tokens that are none', async (t) => {
  const { ask } = await chainOf(t);
  const good = token(RSA);
  const [header, payload, signature] = good.split('.');
  for (const jwt of [
    'x',
    '..',
    'a.b.c',
    `${header}.${payload}`,
    `${header}.${payload}.${signature}.${signature}`,
    `${header}.${payload}.${signature}=`,
    `${header}.${payload}.!!!`,
    `${header}.${payload.slice(0, -4)}%%%%.${signature}`,
    `${part('[]')}.${payload}.${signature}`,
    `${header}.${part('null')}.${signature}`,
    `${header}.${part('"text"')}.${signature}`,
    `${header}.${part('{')}.${signature}`,
    `${good}.`,
    `${good}..`,
    `.${good}`,
    `${header}..${signature}`,
    `.${payload}.${signature}`,
    // A JWE, compact: five parts.
    `${part({ alg: 'RSA-OAEP', enc: 'A256GCM' })}.AAAA.AAAA.AAAA.AAAA`,
    // Base64 of another alphabet, and padded.
    `${header}.${payload}.${signature.replace(/[-_]|.$/, '+')}`,
    `${header}.${payload}.${signature.replace(/[-_]|.$/, '/')}`,
    `${header}==.${payload}.${signature}`,
    `${header}.${payload}=.${signature}`,
    `${header}.${payload}.${signature}\u0000`,
    `"${good}"`,
    `${good};`,
    `${header}.${part('{"iss":"\ud800"')}.${signature}`,
    `${part('\ufeff{}')}.${payload}.${signature}`,
    `${header}%2E${payload}%2E${signature}`,
  ])
    t.match(await ask(jwt), { ...INVALID, because: 'jwt_malformed' }, jwt.slice(-30));
});

t.test('claims that do not hold', async (t) => {
  const { ask } = await chainOf(t);
  const cases: [string, object, string][] = [
    ['another issuer', { iss: 'https://evil.example.com' }, 'issuer'],
    ['an issuer that begins alike', { iss: `${ISSUER}.evil.com` }, 'issuer'],
    ['issuers in a list', { iss: [ISSUER] }, 'issuer'],
    ['no issuer', { iss: undefined }, 'issuer'],
    ['another audience', { aud: 'bank' }, 'audience'],
    ['other audiences', { aud: ['bank', 'shop2'] }, 'audience'],
    ['no audience', { aud: undefined }, 'audience'],
    ['an empty list of audiences', { aud: [] }, 'audience'],
    ['expired', { exp: seconds() - 61 }, 'expired'],
    ['no exp', { exp: undefined }, 'no_expiry'],
    ['an exp that is text', { exp: String(seconds() + 300) }, 'malformed'],
    ['an exp that is null', { exp: null }, 'malformed'],
    ['an exp that is a list', { exp: [seconds() + 300] }, 'malformed'],
    ['an exp that is true', { exp: true }, 'malformed'],
    ['an exp of 0', { exp: 0 }, 'expired'],
    ['an exp before all time', { exp: -1 }, 'expired'],
    ['an exp far before all time', { exp: -1e300 }, 'malformed'],
    ['an exp in milliseconds of the past', { exp: (Date.now() - 3_600_000) / 1_000 }, 'expired'],
    ['a nbf of the far future', { nbf: 1e300 }, 'malformed'],
    ['a nbf that is null', { nbf: null }, 'malformed'],
    ['an issuer in other case', { iss: ISSUER.toUpperCase() }, 'issuer'],
    ['an issuer with a slash more', { iss: `${ISSUER}/` }, 'issuer'],
    ['an issuer that is a number', { iss: 1 }, 'issuer'],
    ['an audience that begins alike', { aud: `${AUDIENCE}x` }, 'audience'],
    ['an audience that is a number', { aud: 1 }, 'audience'],
    ['an audience that is an object', { aud: { [AUDIENCE]: true } }, 'audience'],
    ['an audience inside of another', { aud: [[AUDIENCE]] }, 'audience'],
    ['not yet valid', { nbf: seconds() + 90 }, 'not_yet_valid'],
    ['a nbf that is text', { nbf: 'now' }, 'malformed'],
  ];
  for (const [name, changes, reason] of cases)
    t.match(await ask(token(RSA, changes)), { ...INVALID, because: `jwt_${reason}` }, name);
  t.match(await ask(token(RSA, { aud: ['bank', AUDIENCE] })), { status: 200 }, 'one of several audiences');
  t.match(await ask(token(RSA, { exp: seconds() - 50 })), { status: 200 }, 'expired within the clock skew');
  t.match(await ask(token(RSA, { nbf: seconds() + 50 })), { status: 200 }, 'valid within the clock skew');
});

t.test('headers that do not hold', async (t) => {
  const { ask } = await chainOf(t);
  const cases: [string, object, string][] = [
    ['a critical header', { crit: ['exp'], exp: 1 }, 'critical_header'],
    ['an empty list of critical headers', { crit: [] }, 'critical_header'],
    ['crit that is no list', { crit: 'b64' }, 'critical_header'],
    ['crit null', { crit: null }, 'critical_header'],
    ['a payload that is not encoded', { b64: false }, 'critical_header'],
    ['a payload that is not encoded, as critical', { b64: false, crit: ['b64'] }, 'critical_header'],
    ['b64 true', { b64: true }, 'critical_header'],
    ['a payload that is compressed', { zip: 'DEF' }, 'critical_header'],
    ['a type of another standard', { typ: 'dpop+jwt' }, 'type'],
    ['a type that begins alike', { typ: 'JWTx' }, 'type'],
    ['a type that is a list', { typ: ['JWT'] }, 'type'],
    ['a type that is null', { typ: null }, 'type'],
    ['another type', { typ: 'logout+jwt' }, 'type'],
    ['a type that is none', { typ: 1 }, 'type'],
  ];
  for (const [name, header, reason] of cases)
    t.match(await ask(token(RSA, {}, header)), { ...INVALID, because: `jwt_${reason}` }, name);
  for (const typ of [undefined, 'jwt', 'at+jwt', 'application/at+JWT'])
    t.match(await ask(token(RSA, {}, { typ })), { status: 200 }, `typ ${typ}`);
});

t.test('names that stand twice', async (t) => {
  const { ask } = await chainOf(t);
  const exp = seconds() + 300;
  const signed = (header: string, payload: string) => {
    const input = `${part(header)}.${part(payload)}`;
    return `${input}.${sign('sha256', Buffer.from(input), RSA.privateKey).toString('base64url')}`;
  };
  const header = `{"alg":"RS256","kid":"${RSA.kid}"}`;
  const payload = (more: string) => `{"iss":"${ISSUER}","aud":"${AUDIENCE}","exp":${exp}${more}}`;
  for (const [name, jwt] of [
    ['a claim', signed(header, payload(',"sub":"ada","sub":"root"'))],
    ['a claim, the same value', signed(header, payload(',"sub":"ada","sub":"ada"'))],
    ['a claim, written otherwise', signed(header, payload(',"sub":"ada","s\\u0075b":"root"'))],
    ['the issuer', signed(header, payload(`,"iss":"${ISSUER}"`))],
    ['the expiry', signed(header, payload(',"exp":1'))],
    ['a claim inside', signed(header, payload(',"realm":[{"roles":"a", "x": {}, "roles" : "b"}]'))],
    ['__proto__', signed(header, payload(',"__proto__":1,"__proto__":2'))],
    ['alg', signed(`{"alg":"none","alg":"RS256","kid":"${RSA.kid}"}`, payload(''))],
    ['kid', signed(`{"alg":"RS256","kid":"x","kid":"${RSA.kid}"}`, payload(''))],
  ] as const)
    t.match(await ask(jwt), { ...INVALID, because: 'jwt_malformed' }, name);
  for (const [name, jwt] of [
    ['one name in several objects', signed(header, payload(',"a":{"a":{"a":"a"}},"b":[{"a":1},{"a":2}]'))],
    [
      'text that looks like names',
      signed(header, payload(',"a":"\\"sub\\":1","b":"\\"sub\\":1","c":["iss","iss:",""]')),
    ],
    ['spaces', signed(header, payload(' , "a" : "\\\\" , "": "" '))],
  ] as const)
    t.match(await ask(jwt), { status: 200 }, name);
});

t.test('a token anywhere else than at its place is none', async (t) => {
  const good = token(RSA);
  const [inHeader, inCookie, inQuery] = [
    await chainOf(t),
    await chainOf(t, { token: { cookie: 'at' } }),
    await chainOf(t, { token: { query: 'at' } }),
  ];
  const elsewhere = {
    cookie: `at=${good}`,
    'x-authorization': `Bearer ${good}`,
    'proxy-authorization': `Bearer ${good}`,
  };
  t.match(await inHeader.ask(null, elsewhere, `/?at=${good}&access_token=${good}`), {
    status: 401,
    because: 'jwt_missing',
  });
  t.match(await inCookie.ask(good, {}, `/?at=${good}`), { status: 401, because: 'jwt_missing' });
  t.match(await inQuery.ask(good, elsewhere), { status: 401, because: 'jwt_missing' });
  // Nor does what stands there do any harm.
  t.match(await inHeader.ask(good, { cookie: 'at=x' }, '/?at=y&at=z'), { status: 200 });
  t.match(await inQuery.ask('x', {}, `/?at=${good}`), { status: 200 });
  t.match(await inQuery.ask(null, {}, `/?at=${good}&at=${good}`), { status: 400, because: 'jwt_repeated' });
  t.match(await inQuery.ask(null, {}, `/?at=${good}&%61t=x`), { status: 400, because: 'jwt_repeated' });
});

t.test('an expiry beyond all time is none', async (t) => {
  const { ask } = await chainOf(t);
  const endless = (exp: string) => {
    const claims = `{"iss":"${ISSUER}","aud":"${AUDIENCE}","exp":${exp}}`;
    const input = `${part({ alg: 'RS256', kid: RSA.kid })}.${part(claims)}`;
    return `${input}.${sign('sha256', Buffer.from(input), RSA.privateKey).toString('base64url')}`;
  };
  t.match(await ask(endless('8640000000000')), { status: 200 }, 'the last moment that there is');
  for (const exp of ['8640000000001', '9007199254740993', '1e300', '1e999', '9'.repeat(400)])
    t.match(await ask(endless(exp)), { ...INVALID, because: 'jwt_malformed' }, exp.slice(0, 20));
});

t.test('a token over 8 KiB is refused, a signed one too', async (t) => {
  const { ask } = await chainOf(t);
  const large = token(RSA, { padding: 'x'.repeat(7_500) });
  t.ok(large.length > 10_000);
  t.match(await ask(large), { ...INVALID, because: 'jwt_too_large' });
  t.match(await ask(token(RSA, { padding: 'x'.repeat(5_000) })), { status: 200 });
});

t.test('credentials that hold no token', async (t) => {
  const { ask, inject, exchanges } = await chainOf(t);
  const malformed = { status: 400, because: 'jwt_bad_credentials', challenge: /error="invalid_request"/ };
  for (const authorization of [
    'Bearer',
    'Bearer ',
    'Bearer a b',
    `Bearer ${token(RSA)} `,
    `Bearer ${token(RSA)}\u00a0`,
    `Bearer Bearer ${token(RSA)}`,
    `Bearer ${token(RSA)}, Bearer ${token(RSA)}`,
  ])
    t.match(await ask(null, { authorization }), malformed, authorization.slice(0, 20));
  for (const headers of [{}, { authorization: 'Basic YWRhOng=' }, { authorization: token(RSA) }])
    t.match(await ask(null, headers as Record<string, string>), {
      status: 401,
      because: 'jwt_missing',
      challenge: 'Bearer realm="selvedge"',
    });
  t.match(await ask(null, { authorization: 'Bearer ä' }), { ...INVALID, because: 'jwt_malformed' });
  t.match(await ask(null, { authorization: `Bearer\t${token(RSA)}` }), { status: 401, because: 'jwt_missing' });
  t.match(
    await ask(null, { authorization: `bEARER ${token(RSA)}` }),
    { status: 200 },
    'the case of the scheme is free',
  );
  const twice = await inject({ url: '/', headers: { authorization: [`Bearer ${token(RSA)}`, 'Bearer x'] as never } });
  t.equal(twice.statusCode, 400, 'two headers');
  t.match(exchanges.at(-1)?.because, /jwt_(repeated|bad_credentials)/);
});

t.test('clients learn nothing of the reason', async (t) => {
  const { ask } = await chainOf(t);
  t.strictSame((await ask(token(RSA, { aud: 'bank' }))).response.json(), { code: 'SLV_UNAUTHORIZED' });
});

t.test('the token may be in another header, a cookie or the query', async (t) => {
  const jwt = token(RSA);
  const header = await chainOf(t, { token: { header: 'X-Assertion' } });
  t.match(await header.ask(null, { 'x-assertion': jwt }), { status: 200 });
  t.match(await header.ask(null, { 'x-assertion': `Bearer ${jwt}` }), { status: 200 });
  t.match(await header.ask(jwt), { status: 401 }, 'and nowhere else');
  const cookie = await chainOf(t, { token: { cookie: 'session' } });
  t.match(await cookie.ask(null, { cookie: `a=b; session=${jwt}` }), { status: 200 });
  t.match(await cookie.ask(null, { cookie: `sessions=${jwt}` }), { status: 401 });
  for (const twice of [`session=${jwt}; session=x`, `session=x; a=b; session=${jwt}`, `session=; session =${jwt}`])
    t.match(await cookie.ask(null, { cookie: twice }), { status: 400, because: 'jwt_repeated' }, twice.slice(0, 20));
  const query = await chainOf(t, { token: { query: 'access_token' } });
  t.match(await query.ask(null, {}, `/?a=b&access_token=${jwt}`), { status: 200 });
  t.match(await query.ask(null, {}, `/?access_token=${jwt}&access_token=x`), { status: 400, because: 'jwt_repeated' });
});

t.test('a secret verifies HS, and nothing else', async (t) => {
  const secret = 'a secret of at least thirty-two bytes';
  const { ask } = await chainOf(t, { keys: undefined, secret });
  t.match(await ask(hmacToken('HS256', secret)), { status: 200 });
  t.match(await ask(hmacToken('HS256', 'another secret of thirty-two bytes or so')), { because: 'jwt_signature' });
  t.match(await ask(hmacToken('HS512', secret)), { because: 'jwt_algorithm' }, 'not in the list');
  t.match(await ask(token(RSA)), { because: 'jwt_algorithm' });
});

t.test('several issuers stand side by side, each with its own keys, audience and algorithms', async (t) => {
  const other = 'https://other.example.com';
  const theirs = signer('RS256', RSA.kid);
  const chain = await testChain([
    [
      'jwt',
      {
        issuers: [
          { issuer: ISSUER, audience: AUDIENCE, keys: jwkSet(RSA) },
          { issuer: other, audience: ['x', 'y'], keys: theirs.pem, algorithms: ['RS256'] },
          { issuer: 'any', audience: false, keys: EC.pem },
        ],
      },
    ],
  ]);
  t.teardown(() => chain.close());
  const status = async (jwt: string) =>
    (await chain.inject({ url: '/', headers: { authorization: `Bearer ${jwt}` } })).statusCode;
  t.equal(await status(token(RSA)), 200);
  t.equal(await status(token(theirs, { iss: other, aud: 'y' })), 200);
  t.equal(await status(token(EC, { iss: 'any', aud: undefined })), 200);
  t.equal(await status(token(theirs)), 401, 'a key of one issuer does not sign for another');
  t.equal(await status(token(RSA, { iss: other, aud: 'x' })), 401);
  t.equal(await status(token(theirs, { iss: other })), 401, 'nor does its audience');
  t.equal(await status(token({ ...theirs, alg: 'PS256' }, { iss: other, aud: 'x' })), 401, 'nor its algorithms');
});

t.test('scopes are in a text or a list, at any depth, and all of them are needed', async (t) => {
  const flat = await chainOf(t, { scopes: ['orders:read', 'orders:write'] });
  for (const scope of ['orders:write orders:read', ['orders:read', 'orders:write', 'x']])
    t.match(await flat.ask(token(RSA, { scope })), { status: 200 }, String(scope));
  t.match(await flat.ask(token(RSA, { scp: ['orders:read', 'orders:write'] })), { status: 200 }, 'scp');
  for (const scope of [
    'orders:read',
    'orders:read orders:writes',
    ['orders:read orders:write'],
    undefined,
    null,
    {},
    1,
  ])
    t.match(
      await flat.ask(token(RSA, { scope })),
      {
        status: 403,
        because: 'jwt_scope',
        challenge: 'Bearer realm="selvedge", error="insufficient_scope", scope="orders:read orders:write"',
      },
      String(scope),
    );
  const deep = await chainOf(t, { scopes: ['admin'], scopeClaim: 'realm_access.roles' });
  t.match(await deep.ask(token(RSA, { realm_access: { roles: ['user', 'admin'] } })), { status: 200 });
  t.match(await deep.ask(token(RSA, { scope: 'admin' })), { status: 403 });
});

t.test('required claims', async (t) => {
  const { ask } = await chainOf(t, {
    claims: { email_verified: true, 'org.id': ['a', 'b'], sub: { present: true }, level: 3 },
  });
  const good = { email_verified: true, org: { id: 'b' }, level: 3 };
  t.match(await ask(token(RSA, good)), { status: 200 });
  t.match(await ask(token(RSA, { ...good, org: { id: ['x', 'a'] } })), { status: 200 }, 'an element of a list');
  for (const wrong of [{ email_verified: false }, { org: { id: 'c' } }, { org: 'a' }, { sub: undefined }, { level: 4 }])
    t.match(
      await ask(token(RSA, { ...good, ...wrong })),
      { status: 403, because: 'jwt_claim', challenge: 'Bearer realm="selvedge", error="insufficient_scope"' },
      JSON.stringify(wrong),
    );
});

t.test('optional lets through who has no token, and nobody who has a bad one', async (t) => {
  const { ask, sent } = await chainOf(t, { optional: true, claimsToHeaders: { sub: 'x-sub' } });
  t.match(await ask(null), { status: 200, because: null });
  t.match(await ask(null, { authorization: 'Basic YWRhOng=' }), { status: 200 }, 'credentials of another kind');
  t.match(await ask('a.b.c'), { status: 401 });
  t.match(await ask(token(RSA, { exp: 1 })), { status: 401 });
  t.match(await ask(token(RSA)), { status: 200 });
  t.strictSame(sentValues(sent[0], 'x-sub'), []);
  t.strictSame(sentValues(sent[2], 'x-sub'), ['ada']);
});

t.test('claims in headers', async (t) => {
  const { ask, sent } = await chainOf(t, {
    claimsToHeaders: { sub: 'X-Sub', roles: 'x-roles', 'org.id': 'x-org', name: 'x-name', level: 'x-level' },
  });
  await ask(token(RSA, { roles: ['a', 'b'], org: { id: 'acme' }, name: 'Żoë', level: 3 }));
  const told = (name: string, at = -1) => sentValues(sent.at(at) as never, name);
  t.strictSame(told('x-sub'), ['ada']);
  t.strictSame(told('x-roles'), ['a,b']);
  t.strictSame(told('x-org'), ['acme']);
  t.strictSame(told('x-level'), ['3']);
  t.equal(Buffer.from(told('x-name')[0], 'latin1').toString(), 'Żoë', 'as UTF-8');

  await ask(token(RSA, { roles: ['a,admin'], org: {}, name: 'a\r\nx-sub: root', level: null }));
  t.strictSame(told('x-sub'), ['ada']);
  for (const name of ['x-roles', 'x-org', 'x-name', 'x-level']) t.strictSame(told(name), [], `${name} cannot be told`);
});

t.test('the claims are on request.user, for whoever decides further down, and nobody can change them', async (t) => {
  const seen: unknown[] = [];
  const chain = await testChain([['jwt', BASE]], {
    dispatch: (request) => {
      seen.push((request as { user?: unknown }).user);
      return {};
    },
  });
  t.teardown(() => chain.close());
  const jwt = token(RSA, { roles: ['a'], org: { id: 1 } });
  for (let i = 0; i < 2; i++) await chain.inject({ url: '/', headers: { authorization: `Bearer ${jwt}` } });
  t.match(seen, [{ sub: 'ada', roles: ['a'] }, { sub: 'ada' }]);
  t.equal(seen[0], seen[1], 'the second time it was known');
  const [user] = seen as [{ sub: string; roles: string[]; org: { id: number } }];
  t.throws(() => user.roles.push('admin'));
  t.throws(() => {
    user.org.id = 2;
  });
});

t.test('a request that no route takes keeps the answer it has', async (t) => {
  const { ask } = await chainOf(t, {}, { exchange: { route: null } });
  t.match(await ask(null), { status: 200 });
});

t.test('two jwt plugins in one chain ask for their own each', async (t) => {
  const chain = await testChain([
    ['jwt', BASE],
    ['jwt', { ...BASE, keys: jwkSet(EC), token: { header: 'x-second' } }],
  ]);
  t.teardown(() => chain.close());
  const status = async (headers: Record<string, string>) => (await chain.inject({ url: '/', headers })).statusCode;
  t.equal(await status({ authorization: `Bearer ${token(RSA)}`, 'x-second': token(EC) }), 200);
  t.equal(await status({ authorization: `Bearer ${token(RSA)}`, 'x-second': token(RSA) }), 401);
  t.equal(await status({ 'x-second': token(EC) }), 401);
});

t.test('what became of tokens is counted, by reasons of ours alone', async (t) => {
  const registry = new Registry();
  const store = new SharedStore();
  const { ask, close } = await chainOf(t, { optional: true, scopes: ['x'] }, { registry, store });
  await ask(null);
  await ask('a.b.c');
  await ask(token(RSA));
  await ask(token(RSA, { scope: 'x' }));
  await ask(token(RSA, { scope: 'x' }));
  const lines = (await registry.metrics()).split('\n').filter((line) => line.startsWith('selvedge_jwt_total'));
  t.strictSame(lines.sort(), [
    'selvedge_jwt_total{result="absent",reason=""} 1',
    'selvedge_jwt_total{result="refused",reason="malformed"} 1',
    'selvedge_jwt_total{result="refused",reason="scope"} 1',
    'selvedge_jwt_total{result="verified",reason=""} 2',
  ]);
  await close();
  t.equal(registry.getSingleMetric('selvedge_jwt_total'), undefined);
});

t.test(
  'claims that another plugin verified before stay where there is no token, and give way where there is one',
  async (t) => {
    const users: unknown[] = [];
    const verifier = new URL('./support/verifier.ts', import.meta.url).pathname;
    const chain = await testChain([[verifier], ['jwt', { ...BASE, optional: true, token: { header: 'x-token' } }]], {
      dispatch: (request) => {
        users.push((request as { user?: unknown }).user);
        return {};
      },
    });
    t.teardown(() => chain.close());
    await chain.inject({ url: '/', headers: { authorization: 'admin' } });
    await chain.inject({ url: '/', headers: { authorization: 'admin', 'x-token': token(RSA) } });
    t.match(users, [{ role: 'admin' }, { sub: 'ada' }]);
    t.equal((users[1] as { role?: string }).role, undefined);
  },
);

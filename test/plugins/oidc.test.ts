// Logins at a provider that does as it is told: what a browser gets to see, what reaches the service, and every way to come in by the back door.
import { generateKeyPairSync, verify } from 'node:crypto';
import t, { type Test } from 'tap';
import type { Counter } from '../../src/plugin.ts';
import { Cookies } from '../../src/plugins/oidc/cookies.ts';
import { returnPath } from '../../src/plugins/oidc/login.ts';
import { Renewals } from '../../src/plugins/oidc/renewal.ts';
import { Sealer } from '../../src/plugins/oidc/sealer.ts';
import { type ChainOptions, sentValues, type TestChain, testChain } from '../support/chain.ts';
import { hmacToken, part, seconds, signer, token } from './jwt/support.ts';
import {
  BASE,
  Browser,
  callback,
  challengeOf,
  NAVIGATION,
  type Op,
  OTHER_SECRET,
  openidProvider,
  options,
  SECRET,
  setCookies,
  tokens,
} from './oidc/support.ts';

async function chainFor(t: Test, op: Op, changes: object = {}, given: ChainOptions = {}): Promise<TestChain> {
  const chain = await testChain([['oidc', options(op, changes)]], given);
  t.teardown(() => chain.close());
  return chain;
}

async function counted({ registry }: TestChain): Promise<Record<string, number>> {
  const metric = registry.getSingleMetric('selvedge_oidc_total') as Counter;
  const { values } = await metric.get();
  return Object.fromEntries(values.map(({ labels, value }) => [String(labels.result), value]));
}

const SESSION = '__Host-selvedge_oidc';

t.test('a browser logs in, comes back to where it was, and the service is told who it is', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op, {
    claimsToHeaders: { sub: 'x-user' },
    accessTokenHeader: 'authorization',
    authorizationParams: { prompt: 'login' },
  });
  const browser = new Browser(chain);
  const first = await browser.get('/cart?item=1&size=m');
  t.equal(first.statusCode, 302);
  t.equal(first.headers['cache-control'], 'no-store');
  const url = new URL(String(first.headers.location));
  t.equal(`${url.origin}${url.pathname}`, `${op.issuer}/auth`);
  const asked = Object.fromEntries(url.searchParams);
  t.match(asked, {
    tenant: '1',
    prompt: 'login',
    response_type: 'code',
    client_id: 'web',
    redirect_uri: `${BASE}/oauth2/callback`,
    scope: 'openid',
    code_challenge_method: 'S256',
  });
  const [login] = setCookies(first);
  t.match(
    login,
    /^__Host-selvedge_oidc\.login\.[\w-]{22}=[\w-]+; Path=\/; HttpOnly; SameSite=Lax; Secure; Max-Age=600$/,
  );
  t.notOk(login.includes(asked.state) || login.includes(asked.nonce), 'nothing of it can be read');

  op.nonce = asked.nonce;
  const back = await browser.get(callback({ code: 'code-1', state: asked.state }));
  t.equal(back.statusCode, 303, back.body);
  t.equal(back.headers.location, '/cart?item=1&size=m');
  t.equal(back.headers['cache-control'], 'no-store');
  t.match(
    setCookies(back)[1],
    /^__Host-selvedge_oidc=1\.[\w-]+; Path=\/; HttpOnly; SameSite=Lax; Secure; Max-Age=3600$/,
  );
  t.equal(chain.exchanges.at(-1)?.query, '', 'neither code nor state is there to be logged');
  t.equal(chain.sent.length, 0, 'nothing of this reached the service');
  const { body, headers } = op.asked[0];
  t.match(Object.fromEntries(body), {
    grant_type: 'authorization_code',
    code: 'code-1',
    redirect_uri: `${BASE}/oauth2/callback`,
  });
  t.equal(challengeOf(body.get('code_verifier') ?? ''), asked.code_challenge);
  t.equal(headers.authorization, `Basic ${Buffer.from('web:client-secret').toString('base64')}`);

  const page = await browser.get('/cart', { ...NAVIGATION, 'x-user': 'root', cookie: 'theme=dark' });
  t.equal(page.statusCode, 200);
  t.strictSame(setCookies(page), []);
  const sent = chain.sent[0];
  t.strictSame(sentValues(sent, 'x-user'), ['ada']);
  t.strictSame(sentValues(sent, 'authorization'), ['Bearer access-1']);
  t.strictSame(sentValues(sent, 'cookie'), []);
  const withOthers = `theme=dark; ${browser.cookie}; lang=en`;
  await chain.inject({ url: '/', headers: { cookie: withOthers } });
  t.strictSame(sentValues(chain.sent[1], 'cookie'), ['theme=dark; lang=en'], 'the others are sent on');
  t.strictSame(await counted(chain), { login: 1, logged_in: 1, session: 2 });
});

t.test('who is no browser on its way to a page is not sent to log in', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const browser = new Browser(chain);
  const html = { accept: 'text/html' };
  const refused = [
    await browser.get('/', html, 'POST'),
    await browser.get('/', html, 'PUT'),
    await browser.get('/', { accept: 'application/json' }),
    await browser.get('/', {}),
    await browser.get('/', { ...html, 'sec-fetch-mode': 'cors' }),
    await browser.get('/', { ...html, 'x-requested-with': 'XMLHttpRequest' }),
  ];
  for (const answer of refused) {
    t.equal(answer.statusCode, 401);
    t.match(answer.headers['www-authenticate'], /^Cookie /);
    t.strictSame(setCookies(answer), []);
  }
  t.equal(chain.exchanges[0].because, 'oidc_no_session');
  t.equal((await browser.get('/', html, 'HEAD')).statusCode, 302);
  const upgrade = await chainFor(t, op, {}, { exchange: { upgrade: 'websocket' } });
  t.equal((await new Browser(upgrade).get('/')).statusCode, 401);
  const unrouted = await chainFor(t, op, {}, { exchange: { route: null } });
  t.equal((await new Browser(unrouted).get('/')).statusCode, 200, 'no route matched: that answer is not ours');
  t.match((await new Browser(unrouted).get(callback({ state: 'x' }))).statusCode, 400, 'but the way back is');
});

t.test('the way back is taken once, by the browser that went away', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const because = () => chain.exchanges.at(-1)?.because;
  const browser = new Browser(chain);
  const state = (await browser.begin(op)).get('state') ?? '';
  const kept = new Map(browser.jar);

  const stranger = new Browser(chain);
  t.equal((await stranger.get(callback({ code: 'c', state }))).statusCode, 400, 'without the cookie');
  t.equal(because(), 'oidc_state_unknown');
  const victim = new Browser(chain);
  await victim.begin(op);
  t.equal((await victim.get(callback({ code: 'c', state }))).statusCode, 400, 'with that of another login');
  t.equal((await browser.get(callback({ code: 'c', state: 'guess' }))).statusCode, 400);
  t.equal((await browser.get(callback({ code: 'c' }))).statusCode, 400);
  t.equal(because(), 'oidc_callback_malformed');
  t.equal((await browser.get(`${callback({ code: 'c', state })}&state=other`)).statusCode, 400);
  t.equal(op.asked.length, 0, 'the provider was asked for nothing');

  for (const [name, value] of kept) browser.jar.set(name, value);
  op.nonce = '';
  const answer = await browser.get(callback({ code: 'c', state }));
  t.equal(answer.statusCode, 403, 'an ID token without the nonce');
  t.equal(because(), 'oidc_id_token_nonce');
  t.equal(browser.jar.size, 0, 'the login is over');
  t.equal((await browser.get(callback({ code: 'c', state }))).statusCode, 400, 'a second time');

  const renamed = [...kept.values()][0];
  const [name] = [...kept.keys()];
  browser.jar.set(name, `${renamed.slice(0, -2)}AA`);
  t.equal((await browser.get(callback({ code: 'c', state }))).statusCode, 400, 'a cookie that was changed');
  browser.jar.clear();
  browser.jar.set(SESSION, `1.${renamed}`);
  t.equal((await browser.get('/')).statusCode, 302, 'a login is no session');
  t.equal(because(), 'oidc_session_invalid');
});

t.test('an ID token has to be for this client, of this provider, signed as allowed, and of this login', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const foreign = signer('ES256', 'op');
  const claims = () => ({ iss: op.issuer, aud: 'web', nonce: op.nonce });
  const unsigned = () => `${part({ alg: 'none' })}.${part({ ...claims(), sub: 'ada', exp: seconds() + 300 })}.`;
  const cases: [because: string, make: () => string | undefined][] = [
    ['nonce', () => op.idToken({ nonce: 'another' })],
    ['audience', () => op.idToken({ aud: 'another' })],
    ['issuer', () => op.idToken({ iss: 'https://evil.example.com' })],
    ['expired', () => op.idToken({ exp: seconds() - 300 })],
    ['no_expiry', () => op.idToken({ exp: undefined })],
    ['azp', () => op.idToken({ aud: ['web', 'another'] })],
    ['azp', () => op.idToken({ aud: ['web', 'another'], azp: 'another' })],
    ['azp', () => op.idToken({ azp: 'another' })],
    ['subject', () => op.idToken({ sub: undefined })],
    ['algorithm', unsigned],
    ['algorithm', () => hmacToken('HS256', 'client-secret', claims(), { kid: 'op' })],
    ['signature', () => token(foreign, claims())],
    ['missing', () => undefined],
    ['malformed', () => 'a.b.c'],
  ];
  for (const [because, make] of cases) {
    op.answer = () => ({ body: tokens(make()) });
    const browser = new Browser(chain);
    const answer = await browser.logIn(op);
    t.equal(answer.statusCode, 403, because);
    t.equal(chain.exchanges.at(-1)?.because, `oidc_id_token_${because}`);
    t.notOk(browser.jar.has(SESSION));
  }
  op.answer = () => ({ body: tokens(op.idToken({ aud: ['web', 'another'], azp: 'web' })) });
  t.equal((await new Browser(chain).logIn(op)).statusCode, 303);
});

t.test('what the provider says on the way back is answered, and never with another login', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const back = async (query: Record<string, string>) => {
    const browser = new Browser(chain);
    const state = (await browser.begin(op)).get('state') ?? '';
    const { statusCode } = await browser.get(callback({ ...query, state }));
    return [statusCode, chain.exchanges.at(-1)?.because];
  };
  t.strictSame(await back({ error: 'access_denied', error_description: '<b>no</b>' }), [403, 'oidc_access_denied']);
  t.strictSame(await back({ error: 'login_required' }), [403, 'oidc_access_denied']);
  t.strictSame(await back({ error: 'invalid_scope' }), [503, 'oidc_provider_refused']);
  t.strictSame(await back({ error: 'made up\r\nx: y' }), [503, 'oidc_provider_refused']);
  t.strictSame(await back({}), [400, 'oidc_callback_malformed']);
  t.strictSame(await back({ code: 'c'.repeat(5_000) }), [400, 'oidc_callback_malformed']);
  t.strictSame(await back({ code: 'c', iss: 'https://evil.example.com' }), [400, 'oidc_response_issuer']);
  t.equal(op.asked.length, 0);
  t.strictSame(await back({ code: 'c', iss: op.issuer }), [303, null]);

  const strict = await openidProvider(t);
  strict.document = { authorization_response_iss_parameter_supported: true };
  const announcing = await chainFor(t, strict);
  t.equal((await new Browser(announcing).logIn(strict)).statusCode, 400, 'it announced "iss", and there is none');

  op.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
  t.strictSame(await back({ code: 'c' }), [400, 'oidc_code_refused']);
  op.answer = () => ({ status: 401, body: { error: 'invalid_client' } });
  t.strictSame(await back({ code: 'c' }), [503, 'oidc_provider_refused']);
  op.answer = () => ({ status: 500, body: {} });
  t.strictSame(await back({ code: 'c' }), [503, 'oidc_provider_unavailable']);
  op.answer = () => ({ body: { access_token: 'a', token_type: 'mac' } });
  t.strictSame(await back({ code: 'c' }), [503, 'oidc_provider_refused']);
  op.answer = () => ({ body: tokens(op.idToken(), { access_token: 'x'.repeat(600_000) }) });
  t.strictSame(await back({ code: 'c' }), [503, 'oidc_provider_unavailable'], 'an answer without end');
});

t.test('a browser goes back to a place of this host, whatever it looks like', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  t.equal((await new Browser(chain).logIn(op, '/a/b?c=d&e=http://evil')).headers.location, '/a/b?c=d&e=http://evil');
  t.equal((await new Browser(chain).logIn(op, `/?${'a'.repeat(3_000)}`)).headers.location, '/');
  for (const path of ['//evil.example.com/', '/\\evil.example.com', 'https://evil.example.com', '/\tevil', '/a b'])
    t.equal(returnPath(path, ''), '/', path);
});

/** A cookie as it stands in the browser after it logged in, with another session in it. */
function forge(op: Op, changes: object, { secret = SECRET, clientId = 'web' } = {}): string {
  const now = Date.now();
  const session = {
    claims: { sub: 'ada' },
    scope: 'openid',
    begunAt: now,
    seenAt: now,
    accessToken: null,
    goodUntil: null,
    renewAt: null,
    refreshToken: null,
    idToken: null,
    ...changes,
  };
  return `1.${new Sealer([secret], [op.issuer, clientId]).seal('session', session)}`;
}

async function tryWith(chain: TestChain, value: string, headers: object = {}) {
  const answer = await chain.inject({ url: '/', headers: { ...headers, cookie: `${SESSION}=${value}` } });
  return [answer.statusCode, chain.exchanges.at(-1)?.because] as const;
}

t.test('a session holds for the client, the secrets and the time that it was made for', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op, { session: { maxAge: '8h', idle: '1h' }, cookieSecret: [OTHER_SECRET, SECRET] });
  const hour = 3_600_000;
  const now = Date.now();
  const good = forge(op, {});
  t.strictSame(await tryWith(chain, good), [200, null], 'the second secret opens too');
  const invalid = [401, 'oidc_session_invalid'];
  for (const at of [5, 40, good.length - 3]) {
    const other = good[at] === 'A' ? 'B' : 'A';
    t.strictSame(await tryWith(chain, `${good.slice(0, at)}${other}${good.slice(at + 1)}`), invalid);
  }
  t.strictSame(await tryWith(chain, good.slice(0, -8)), invalid);
  t.strictSame(await tryWith(chain, good.slice(2)), invalid);
  t.strictSame(await tryWith(chain, `2.${good.slice(2)}`), invalid, 'a part is missing');
  t.strictSame(await tryWith(chain, '9.x'), invalid);
  t.strictSame(await tryWith(chain, ''), invalid);
  t.strictSame(await tryWith(chain, forge(op, {}, { secret: 'a foreign secret of thirty-two bytes' })), invalid);
  t.strictSame(await tryWith(chain, forge(op, {}, { clientId: 'another' })), invalid, 'of a route for another client');
  const expired = [401, 'oidc_session_expired'];
  t.strictSame(await tryWith(chain, forge(op, { begunAt: now - 8 * hour })), expired);
  t.strictSame(await tryWith(chain, forge(op, { seenAt: now - hour })), expired);
  t.strictSame(await tryWith(chain, forge(op, { goodUntil: now - 1 })), expired, 'a token that nobody can renew');

  const seen = await chain.inject({
    url: '/',
    headers: { cookie: `${SESSION}=${forge(op, { seenAt: now - 0.2 * hour })}` },
  });
  t.equal(seen.statusCode, 200);
  t.match(setCookies(seen)[0], /^__Host-selvedge_oidc=1\./, 'seen again');
  t.equal(seen.headers['cache-control'], 'no-store');
  const again = String(/=([^;]+)/.exec(setCookies(seen)[0])?.[1]);
  t.strictSame(
    await tryWith(await chainFor(t, op, { cookieSecret: OTHER_SECRET }), again),
    [200, null],
    'by the first',
  );
  t.strictSame(await tryWith(await chainFor(t, op), again), invalid);
});

t.test('what a session must have is asked of each request', async (t) => {
  const op = await openidProvider(t);
  const changes = { claims: { 'realm.roles': ['admin', 'editor'] }, requiredScopes: ['orders:read'] };
  const chain = await chainFor(t, op, changes);
  const claims = { sub: 'ada', realm: { roles: ['editor'] } };
  t.strictSame(await tryWith(chain, forge(op, { claims, scope: 'openid orders:read' })), [200, null]);
  t.strictSame(await tryWith(chain, forge(op, { claims }), NAVIGATION), [403, 'oidc_scope'], 'no login would help');
  t.strictSame(await tryWith(chain, forge(op, { scope: 'openid orders:read' }), NAVIGATION), [403, 'oidc_claim']);
});

t.test('an access token that runs out is renewed once, whoever comes with the old cookie', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op, { accessTokenHeader: 'x-access-token' });
  op.answer = () => ({ body: tokens(undefined, { access_token: 'access-2', refresh_token: 'refresh-2' }) });
  const now = Date.now();
  const due = { accessToken: 'access-1', refreshToken: 'refresh-1', renewAt: now - 1, goodUntil: now + 60_000 };
  const cookie = `${SESSION}=${forge(op, due)}`;
  const answers = await Promise.all(Array.from({ length: 10 }, () => chain.inject({ url: '/', headers: { cookie } })));
  t.ok(answers.every(({ statusCode }) => statusCode === 200));
  t.equal(op.asked.length, 1);
  t.match(Object.fromEntries(op.asked[0].body), { grant_type: 'refresh_token', refresh_token: 'refresh-1' });
  t.ok(answers.every((answer) => setCookies(answer).length === 1 && answer.headers['cache-control'] === 'no-store'));
  t.ok(chain.sent.every((sent) => sentValues(sent, 'x-access-token')[0] === 'access-2'));
  await chain.inject({ url: '/', headers: { cookie } });
  t.equal(op.asked.length, 1, 'and later too');
  const browser = new Browser(chain);
  browser.keep(answers[0]);
  t.strictSame(setCookies(await browser.get('/')), [], 'the new one is not due');

  const whose = forge(op, { ...due, refreshToken: 'refresh-9' });
  op.answer = () => ({ body: tokens(op.idToken({ sub: 'eve' })) });
  t.strictSame(await tryWith(chain, whose), [401, 'oidc_session_revoked'], 'somebody else');
});

t.test(
  'a session that the provider ends is over; while it is away, one goes on until its token runs out',
  async (t) => {
    const op = await openidProvider(t);
    const chain = await chainFor(t, op);
    await new Browser(chain).logIn(op);
    const now = Date.now();
    const due = (refreshToken: string, goodUntil: number) =>
      forge(op, { refreshToken, renewAt: now - 1_000, goodUntil });
    op.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    t.strictSame(await tryWith(chain, due('gone', now + 60_000)), [401, 'oidc_session_revoked']);
    t.strictSame(await tryWith(chain, due('gone', now + 60_000), NAVIGATION), [302, 'oidc_session_revoked']);
    op.down = true;
    t.strictSame(await tryWith(chain, due('away', now + 60_000)), [200, null]);
    t.strictSame(await tryWith(chain, due('away', now - 1)), [503, 'oidc_provider_unavailable']);
    const asked = op.server.asked.length;
    await tryWith(chain, due('away', now - 1), NAVIGATION);
    t.equal(op.server.asked.length, asked, 'it is left alone for some seconds');
    t.match(await counted(chain), { renewal_failed: 1, renewal_refused: 1, provider_unavailable: 2 });
  },
);

t.test('renewals are remembered for a while, within a bound', async (t) => {
  let now = 0;
  const renewals = new Renewals(() => now);
  let asked = 0;
  const ask = async () => {
    asked++;
    return {} as never;
  };
  await renewals.renew('a', 'r', ask);
  await renewals.renew('a', 'r', ask);
  t.equal(asked, 1);
  await renewals.renew('b', 'r', ask);
  t.equal(asked, 2, 'of another client');
  now = 60_001;
  await renewals.renew('a', 'r', ask);
  t.equal(asked, 3);
  for (let i = 0; i < 6_000; i++) await renewals.renew('a', `r${i}`, ask);
  t.ok(renewals.size <= 5_000);
  await t.rejects(
    renewals.renew('a', 'x', () => Promise.reject(new TypeError('a defect'))),
    TypeError,
  );
});

t.test('a provider that was never there is answered for with 503, until it is', async (t) => {
  const op = await openidProvider(t);
  op.down = true;
  const chain = await chainFor(t, op);
  const browser = new Browser(chain);
  const answer = await browser.get('/');
  t.equal(answer.statusCode, 503);
  t.equal(answer.headers['retry-after'], '5');
  t.equal(chain.exchanges[0].because, 'oidc_provider_unavailable');
  t.equal((await browser.get('/', { accept: 'application/json' })).statusCode, 401);

  for (const document of [
    { issuer: 'https://evil.example.com' },
    { token_endpoint: 'http://evil.example.com/' },
    { authorization_endpoint: 1 },
  ]) {
    const wrong = await openidProvider(t);
    wrong.document = document;
    t.equal((await new Browser(await chainFor(t, wrong)).get('/')).statusCode, 503, JSON.stringify(document));
  }
});

t.test('logins under way are few, and those that come to nothing end', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const browser = new Browser(chain);
  const first = (await browser.begin(op, '/first')).get('state') ?? '';
  const second = (await browser.begin(op, '/second')).get('state') ?? '';
  await browser.begin(op, '/third');
  for (let i = 0; i < 20; i++) browser.jar.set(`__Host-selvedge_oidc.login.junk${i}`, 'x');
  await browser.begin(op, '/fourth');
  t.equal(browser.jar.size, 4, 'what is no login is cleared away');
  t.equal(
    (await browser.get(callback({ code: 'c', state: first }))).statusCode,
    403,
    'the nonce is that of the fourth',
  );
  const tab = new Browser(chain);
  for (const url of ['/a', '/b', '/c']) await tab.begin(op, url);
  t.ok(second);
  for (let i = 0; i < 10; i++) await tab.begin(op, `/${i}`);
  t.equal(tab.jar.size, 5);

  const forgetful = new Browser(chain);
  for (let i = 0; i < 5; i++) {
    t.equal((await forgetful.logIn(op)).statusCode, 303);
    forgetful.jar.delete(SESSION);
  }
  const stopped = await forgetful.get('/');
  t.equal(stopped.statusCode, 401);
  t.equal(stopped.headers.location, undefined);
  t.equal(chain.exchanges.at(-1)?.because, 'oidc_login_loop');
});

t.test('two tabs log in at once', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op);
  const browser = new Browser(chain);
  const one = await browser.begin(op, '/one');
  const two = await browser.begin(op, '/two');
  for (const [asked, place] of [
    [two, '/two'],
    [one, '/one'],
  ] as const) {
    op.nonce = asked.get('nonce') ?? '';
    const back = await browser.get(callback({ code: 'c', state: asked.get('state') ?? '' }));
    t.equal(back.headers.location, place);
  }
});

t.test('a large session is spread over cookies, up to a bound', async (t) => {
  const op = await openidProvider(t);
  const chain = await chainFor(t, op, { claimsToHeaders: { groups: 'x-groups' } });
  const groups = Array.from({ length: 300 }, (_, index) => `group-number-${index}`);
  op.answer = () => ({ body: tokens(op.idToken({ groups })) });
  const browser = new Browser(chain);
  const back = await browser.logIn(op);
  t.strictSame([...browser.jar.keys()].slice(0, 3), [SESSION, `${SESSION}.1`, `${SESSION}.2`]);
  t.ok(setCookies(back).every((line) => line.length <= 4_096));
  t.equal((await browser.get('/')).statusCode, 200);
  t.strictSame(sentValues(chain.sent[0], 'x-groups'), [groups.join(',')]);
  t.strictSame(sentValues(chain.sent[0], 'cookie'), []);
  browser.jar.delete(`${SESSION}.1`);
  t.equal((await browser.get('/', {})).statusCode, 401);

  op.answer = () => ({ body: tokens(op.idToken()) });
  const small = await browser.logIn(op);
  t.ok(setCookies(small).some((line) => line.startsWith(`${SESSION}.2=; `) && line.endsWith('; Max-Age=0')));
  t.notOk(browser.jar.has(`${SESSION}.2`));
  op.answer = () => ({ body: tokens(op.idToken({ groups: [...groups, ...groups, ...groups, ...groups] })) });
  t.equal((await new Browser(chain).logIn(op)).statusCode, 503);
  t.equal(chain.exchanges.at(-1)?.because, 'oidc_session_too_large');
});

t.test('people log out, and only they do', async (t) => {
  const op = await openidProvider(t);
  op.document = { end_session_endpoint: `${op.issuer}/end`, revocation_endpoint: `${op.issuer}/revoke` };
  const chain = await chainFor(t, op, { logout: { redirectTo: '/bye' } });
  op.answer = () => ({ body: tokens(op.idToken(), { refresh_token: 'refresh-1' }) });
  const browser = new Browser(chain);
  await browser.logIn(op);
  for (const [method, headers] of [
    ['POST', { 'sec-fetch-site': 'cross-site' }],
    ['POST', { 'sec-fetch-site': 'same-site' }],
    ['POST', { origin: 'https://evil.example.com' }],
    ['POST', { origin: 'null' }],
    ['GET', { 'sec-fetch-site': 'cross-site' }],
    ['GET', {}],
  ] as const) {
    const refused = await browser.get('/oauth2/logout', headers, method);
    t.equal(refused.statusCode, 403);
    t.strictSame(setCookies(refused), []);
  }
  t.equal((await browser.get('/oauth2/logout', { 'sec-fetch-site': 'same-origin' }, 'PUT')).statusCode, 400);
  const done = await browser.get('/oauth2/logout', { origin: BASE }, 'POST');
  t.equal(done.statusCode, 303);
  const url = new URL(String(done.headers.location));
  t.equal(`${url.origin}${url.pathname}`, `${op.issuer}/end`);
  t.equal(url.searchParams.get('client_id'), 'web');
  t.equal(url.searchParams.get('post_logout_redirect_uri'), `${BASE}/bye`);
  t.equal(url.searchParams.get('id_token_hint')?.split('.').length, 3);
  t.notOk(browser.jar.has(SESSION));
  await t.resolves(until(() => op.revoked.length === 1));
  t.equal(op.revoked[0].get('token'), 'refresh-1');

  const local = await chainFor(t, op, { logout: { provider: false, redirectTo: 'https://www.example.com/' } });
  const other = new Browser(local);
  await other.logIn(op);
  const gone = await other.get('/oauth2/logout', { 'sec-fetch-site': 'none' });
  t.equal(gone.headers.location, 'https://www.example.com/');
  t.equal((await other.get('/oauth2/logout', {}, 'POST')).statusCode, 303, 'nobody is logged in, and that is fine');
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

t.test('the client shows who it is as the config says', async (t) => {
  const op = await openidProvider(t);
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  const last = async (changes: object) => {
    await new Browser(await chainFor(t, op, changes)).logIn(op);
    return op.asked.at(-1) as (typeof op.asked)[number];
  };
  const post = await last({ clientAuthentication: 'client_secret_post' });
  t.equal(post.body.get('client_secret'), 'client-secret');
  t.equal(post.headers.authorization, undefined);
  const open = await last({ clientSecret: undefined });
  t.equal(open.body.get('client_id'), 'web');
  t.equal(open.body.get('client_secret'), null);
  const { body } = await last({ clientSecret: undefined, privateKey: pem, keyId: 'k1' });
  const [head, claims, signature] = (body.get('client_assertion') ?? '').split('.');
  const read = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString());
  t.strictSame(read(head), { alg: 'ES256', typ: 'JWT', kid: 'k1' });
  t.match(read(claims), { iss: 'web', sub: 'web', aud: op.issuer });
  const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
  t.ok(verify('sha256', Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, 'base64url')));
  const odd = await last({ clientSecret: 'p:w %' });
  t.equal(odd.headers.authorization, `Basic ${Buffer.from('web:p%3Aw+%25').toString('base64')}`);
});

t.test('cookies are named and marked for where they are sent', async (t) => {
  const names = (changes: object) => {
    const settings = { name: 's', domain: null, path: '/', sameSite: 'Lax', secure: true, ...changes } as const;
    const cookies = new Cookies(settings as ConstructorParameters<typeof Cookies>[0]);
    return [
      cookies.writeSession('x', 60_000, [])?.[0],
      cookies.writeLogin('id', 'x').split('; ').slice(0, 3).join('; '),
    ];
  };
  t.strictSame(names({ secure: false }), [
    's=1.x; Path=/; HttpOnly; SameSite=Lax; Max-Age=60',
    's.login.id=x; Path=/; HttpOnly',
  ]);
  t.strictSame(names({ domain: 'example.com', sameSite: 'None' }), [
    '__Secure-s=1.x; Path=/; Domain=example.com; HttpOnly; SameSite=None; Secure; Max-Age=60',
    '__Host-s.login.id=x; Path=/; HttpOnly',
  ]);
  t.match(names({ path: '/app' })[0], /^__Secure-s=1\.x; Path=\/app;/);
});

t.test('several hosts are told apart by name and port, and others get the first', async (t) => {
  const op = await openidProvider(t);
  const baseUrl = ['https://shop.example.com', 'https://admin.example.com:8443'];
  const redirectFor = async (exchange: object) => {
    const chain = await chainFor(t, op, { baseUrl }, { exchange });
    return (await new Browser(chain).begin(op)).get('redirect_uri');
  };
  t.equal(await redirectFor({ host: 'admin.example.com', port: '8443' }), `${baseUrl[1]}/oauth2/callback`);
  t.equal(await redirectFor({ host: 'shop.example.com', port: '443' }), `${baseUrl[0]}/oauth2/callback`);
  t.equal(await redirectFor({ host: 'evil.example.com' }), `${baseUrl[0]}/oauth2/callback`);
});

t.test('options that cannot work are refused, and secrets are not repeated', async (t) => {
  const given = { issuer: 'https://id.example.com', clientId: 'web', baseUrl: BASE, cookieSecret: SECRET };
  const wrong: [changes: object, says: RegExp][] = [
    [{ issuer: 'http://id.example.com' }, /issuer: is http.*use https$/m],
    [{ issuer: 'id' }, /issuer/],
    [{ cookieSecret: 'tooshortasecret' }, /cookieSecret: must have at least 32 bytes/],
    [{ cookieSecret: [SECRET, 'tooshortasecret'] }, /cookieSecret\[1\]/],
    [{ scopes: ['email'] }, /scopes: must have "openid"/],
    [{ authorizationParams: { redirect_uri: 'x' } }, /authorizationParams\.redirect_uri/],
    [{ baseUrl: 'https://shop.example.com/app' }, /baseUrl/],
    [{ baseUrl: 'http://shop.example.com' }, /baseUrl: is http/],
    [{ baseUrl: [BASE, 'ftp://x'] }, /baseUrl\[1\]/],
    [{ callbackPath: 'cb' }, /callbackPath/],
    [{ callbackPath: '/a/../b' }, /callbackPath/],
    [{ callbackPath: '/x', logout: { path: '/x' } }, /logout\.path: must differ/],
    [{ logout: { redirectTo: '//evil.example.com' } }, /logout\.redirectTo/],
    [{ cookie: { path: '/app' } }, /logout\.path: must lie below/],
    [{ cookie: { domain: 'example.org' } }, /cookie\.domain/],
    [{ cookie: { sameSite: 'None' }, baseUrl: 'http://localhost:8080' }, /cookie\.sameSite/],
    [{ session: { maxAge: '1s' } }, /session\.maxAge/],
    [{ timeout: '5m' }, /timeout/],
    [{ clientAuthentication: 'client_secret_post' }, /clientAuthentication: does nothing/],
    [{ privateKey: 'tooshortasecret' }, /privateKey: is no private key/],
    [{ keyId: 'x' }, /keyId: does nothing/],
    [{ claimsToHeaders: { sub: 'cookie' } }, /claimsToHeaders\.sub/],
    [{ claimsToHeaders: { sub: 'x-user', email: 'X-User' } }, /claimsToHeaders\.email/],
    [{ accessTokenHeader: 'host' }, /accessTokenHeader/],
  ];
  for (const [changes, says] of wrong) {
    const error = await testChain([['oidc', { ...given, ...changes }]]).then(
      () => new Error('it loaded'),
      (error) => error as Error,
    );
    t.match(error.message, says, JSON.stringify(changes));
    t.notMatch(error.message, /tooshortasecret/);
  }
});

// A real OpenID provider, a gateway in front of a service, and a browser reduced to what matters here: it follows, keeps cookies and sends forms.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import Provider from 'oidc-provider';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { signer } from '../plugins/jwt/support.ts';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, httpUpstream } from './support/sockets.ts';

const KEY = signer('RS256');
const SECRETS = { client: 'canary-of-the-client-secret', cookie: 'canary-of-the-cookie-secret-0123456789' };

async function provider(t: Test, gateway: string, accessTokenSeconds: number) {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const op = new Provider(issuer, {
    clients: [
      {
        client_id: 'web',
        client_secret: SECRETS.client,
        redirect_uris: [`${gateway}/oauth2/callback`],
        post_logout_redirect_uris: [`${gateway}/bye`],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
    ],
    claims: { openid: ['sub'], email: ['email'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['a key of the provider'] },
    jwks: { keys: [{ ...KEY.privateKey.export({ format: 'jwk' }), kid: 'op', use: 'sig', alg: 'RS256' }] },
    features: { revocation: { enabled: true } },
    findAccount: (_: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com` }),
    }),
    rotateRefreshToken: true,
    ttl: { AccessToken: accessTokenSeconds, IdToken: 300, Session: 3_600, Grant: 3_600, Interaction: 300 },
  });
  server.on('request', op.callback());
  return { issuer, op, server };
}

/** Cookies by origin: ports do not separate them in browsers, but nothing here depends on that. */
class Browser {
  readonly jars = new Map<string, Map<string, string>>();
  url = '';
  text = '';
  status = 0;

  async go(url: string, init: RequestInit = {}): Promise<this> {
    let next: string | null = url;
    let asked = init;
    for (let hops = 0; next !== null; hops++) {
      if (hops > 20) throw new Error(`redirected round in circles at ${next}`);
      const answer: Response = await this.once(next, asked);
      const location: string | null = answer.headers.get('location');
      this.url = next;
      this.status = answer.status;
      this.text = await answer.text();
      next = location === null ? null : new URL(location, next).href;
      asked = {};
    }
    return this;
  }

  async once(url: string, init: RequestInit = {}): Promise<Response> {
    const { origin } = new URL(url);
    const jar = this.jars.get(origin) ?? new Map<string, string>();
    this.jars.set(origin, jar);
    const headers = new Headers({ accept: 'text/html', 'sec-fetch-site': 'same-origin', ...init.headers });
    if (jar.size > 0) headers.set('cookie', [...jar].map(([name, value]) => `${name}=${value}`).join('; '));
    if (init.body !== undefined) headers.set('content-type', 'application/x-www-form-urlencoded');
    // Not fetch, which says of itself that it is no navigation.
    const got = await request(url, {
      method: init.method as 'GET',
      headers: Object.fromEntries(headers),
      body: init.body === undefined ? null : String(init.body),
    });
    const lines = Object.entries(got.headers).flatMap(([name, value]) =>
      [value ?? []].flat().map((one): [string, string] => [name, one]),
    );
    const answer = new Response(await got.body.text(), { status: got.statusCode, headers: lines });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) as RegExpExecArray;
      if (value === '' || /max-age=0\b/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    return answer;
  }

  /** Sends the form of the page. */
  submit(fields: Record<string, string>): Promise<this> {
    const action = /<form[^>]*action="([^"]+)"/.exec(this.text)?.[1];
    if (action === undefined) throw new Error(`no form at ${this.url} (${this.status}): ${this.text.slice(0, 500)}`);
    const hidden = [...this.text.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)];
    const body = new URLSearchParams({
      ...Object.fromEntries(hidden.map(([, name, value]) => [name, value])),
      ...fields,
    });
    return this.go(new URL(action, this.url).href, { method: 'POST', body });
  }

  async logIn(url: string): Promise<this> {
    await this.go(url);
    await this.submit({ login: 'ada', password: 'x' });
    return this.submit({});
  }
}

/** `paths`: of the route; the way back need not be among them. */
async function setting(t: Test, { paths = ['/shop'], accessTokenSeconds = 300 } = {}) {
  const port = await closedPort();
  const gateway = `http://127.0.0.1:${port}`;
  const seen: Record<string, unknown>[] = [];
  const { port: upstream } = await httpUpstream(t, (req, res) => {
    seen.push({ ...req.headers });
    res.setHeader('set-cookie', 'theme=dark');
    res.setHeader('cache-control', 'max-age=60').end(`page ${req.url}`);
  });
  const { issuer, server } = await provider(t, gateway, accessTokenSeconds);
  const log = join(t.testdir(), 'access.log');
  const oidc = {
    issuer,
    clientId: 'web',
    clientSecret: SECRETS.client,
    cookieSecret: [SECRETS.cookie, `${SECRETS.cookie} of before`],
    baseUrl: gateway,
    scopes: ['openid', 'email', 'offline_access'],
    authorizationParams: { prompt: 'consent' },
    claimsToHeaders: { sub: 'x-user', email: 'x-email' },
    accessTokenHeader: 'authorization',
    logout: { redirectTo: '/bye' },
  };
  const { selvedge } = await run(
    t,
    edgeTo([upstream], {
      admin: { host: '127.0.0.1', port: 0 },
      listener: { port },
      gateway: {
        plugins: [{ oidc }, { 'access-log': { destination: log, query: 'full', headers: ['cookie'], redact: [] } }],
      },
      route: { match: paths.map((path) => ({ path })) },
    }),
  );
  const admin = `http://127.0.0.1:${selvedge.adminAddress()?.port}`;
  return { gateway, seen, server, issuer, log, admin };
}

t.test('a browser logs in at a real provider, and out again', async (t) => {
  const { gateway, seen, log, admin } = await setting(t, { paths: ['/shop', '/oauth2'] });
  const browser = new Browser();
  await browser.logIn(`${gateway}/shop/cart?item=1`);
  t.equal(browser.url, `${gateway}/shop/cart?item=1`);
  t.equal(browser.text, 'page /shop/cart?item=1');
  t.match(seen[0], { 'x-user': 'ada', 'x-email': 'ada@example.com', authorization: /^Bearer [\w-]+$/ });
  t.equal(seen[0].cookie, undefined);
  const forged = await browser.once(`${gateway}/shop`, {
    headers: { 'x-user': 'root', 'x-email': 'root@example.com' },
  });
  t.equal(forged.status, 200);
  t.equal(forged.headers.get('cache-control'), 'max-age=60', 'the answer is the service’s');
  t.strictSame([seen[1]['x-user'], seen[1].cookie], ['ada', 'theme=dark']);
  t.equal((await fetch(`${gateway}/shop`, { headers: { 'x-user': 'root' } })).status, 401);
  t.equal((await fetch(`${gateway}/elsewhere`)).status, 404, 'no route, no login');

  const cookies = [...(browser.jars.get(gateway)?.values() ?? [])];
  await browser.go(`${gateway}/oauth2/logout`, { method: 'POST' });
  await browser.submit({ logout: 'yes' });
  t.equal(browser.url, `${gateway}/bye`);
  t.equal((await browser.once(`${gateway}/shop`)).status, 302, 'nobody is logged in any more');
  await browser.go(`${gateway}/shop`);
  t.match(browser.text, /name="password"/, 'neither at the provider');

  const metrics = await (await fetch(`${admin}/metrics`)).text();
  t.match(metrics, /selvedge_oidc_total\{owner="edge",result="logged_in"\} 1/);
  const config = await (await fetch(`${admin}/config`)).text();
  t.match(config, /"oidc"/);
  await eventually(() => readFileSync(log, 'utf8').split('\n').length > 8, 'the log is written');
  const written = readFileSync(log, 'utf8');
  t.match(written, /"because":"oidc_no_session"/);
  t.notMatch(config + metrics + written, /canary/);
  for (const value of cookies.filter((one) => one !== 'dark')) t.notOk(written.includes(value), 'no cookie is logged');
  t.match(written, /"path":"\/oauth2\/callback"/);
  t.notMatch(written, /[?&"](?:code|state)=/);
});

t.test(
  'refresh tokens that rotate are used once each, and a provider that is gone ends no session at once',
  async (t) => {
    const { gateway, seen, server } = await setting(t, { accessTokenSeconds: 1 });
    const browser = new Browser();
    await browser.logIn(`${gateway}/shop`);
    t.equal(browser.status, 200);
    const first = seen.at(-1)?.authorization;
    const end = performance.now() + 5_000;
    while (seen.at(-1)?.authorization === first && performance.now() < end) {
      const answers = await Promise.all([1, 2, 3, 4].map(() => browser.once(`${gateway}/shop`)));
      t.ok(answers.every(({ status }) => status === 200));
    }
    t.not(seen.at(-1)?.authorization, first, 'the service gets a new access token');
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const answer = await browser.once(`${gateway}/shop`);
    t.equal(answer.status, 200);
    let last = answer.status;
    while (last === 200 && performance.now() < end + 5_000) last = (await browser.once(`${gateway}/shop`)).status;
    t.equal(last, 503, 'it ends with the access token');
  },
);

t.test('a login that the person refuses ends there', async (t) => {
  const { gateway } = await setting(t);
  const browser = new Browser();
  await browser.go(`${gateway}/shop`);
  const abort = new URL(`${new URL(browser.url).pathname}/abort`, browser.url).href;
  await browser.go(abort);
  t.equal(browser.status, 403);
  t.match(browser.text, /SLV_FORBIDDEN/);
  t.match(browser.url, /\/oauth2\/callback\?/);
});

t.test('what another browser began is not finished in this one', async (t) => {
  const { gateway } = await setting(t);
  const attacker = new Browser();
  await attacker.go(`${gateway}/shop`);
  await attacker.submit({ login: 'mallory', password: 'x' });
  const form = new URL(/action="([^"]+)"/.exec(attacker.text)?.[1] ?? '', attacker.url).href;
  let next = form;
  let init: RequestInit = { method: 'POST', body: new URLSearchParams({ prompt: 'consent' }) };
  while (!next.startsWith(`${gateway}/oauth2/callback`)) {
    const answer = await attacker.once(next, init);
    next = new URL(answer.headers.get('location') ?? '', next).href;
    init = {};
  }
  const victim = new Browser();
  await victim.go(`${gateway}/shop`);
  await victim.go(next);
  t.equal(victim.status, 400);
  await attacker.go(next);
  t.equal(attacker.status, 200, 'in the one that began it, it is');
  t.equal((await attacker.go(next)).status, 400, 'once');
});

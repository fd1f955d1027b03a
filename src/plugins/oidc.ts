// Lets browsers in that have logged in at an OpenID provider, sends the others there, and tells the service who it is.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { definePlugin } from '../plugin.ts';
import { Refusal } from './jwt/refusal.ts';
import { claimRequirement, headerOfClaim, scopeRequirement } from './jwt/requirements.ts';
import { loginId } from './oidc/cookies.ts';
import type { Redirect } from './oidc/login.ts';
import { assertOwnWish, logOut } from './oidc/logout.ts';
import { oidcProblems } from './oidc/option-problems.ts';
import { oidcOptions } from './oidc/options.ts';
import { Refused } from './oidc/refusal.ts';
import type { Session } from './oidc/session.ts';
import { setUp } from './oidc/set-up.ts';

export default definePlugin(
  {
    name: 'oidc',
    options: oidcOptions,
    check: oidcProblems,
    identityHeaders: ({ claimsToHeaders, accessTokenHeader = '' }) =>
      [...Object.values(claimsToHeaders), accessTokenHeader]
        .map((name) => name.toLowerCase())
        // Credentials of other plugins until it is written here.
        .filter((name) => name !== '' && name !== 'authorization'),
    unrouted: true,
  },
  async (app, options) => {
    const { baseOf, login, sessions, logout, count, report } = await setUp(app, options);
    const tokenHeader = options.accessTokenHeader?.toLowerCase();
    const requirements = Object.entries(options.claims).map(([name, wanted]) => claimRequirement(name, wanted));
    const scopes = scopeRequirement(options.requiredScopes, 'scope');
    const told = Object.entries(options.claimsToHeaders).map(([claim, name]) => {
      return { name: name.toLowerCase(), value: headerOfClaim(claim) };
    });
    /** Whose answer carries a session that no cache may keep. */
    const renewed = new WeakSet<FastifyRequest>();

    app.addHook('onRequest', async (request, reply) => {
      const { selvedge, headers } = request;
      const base = baseOf(selvedge);
      const jar = base.cookies.take(headers.cookie);
      // Before anything else is done, so that no session is logged or sent on.
      if (jar.rest === undefined) delete headers.cookie;
      else headers.cookie = jar.rest;
      try {
        if (selvedge.path === options.callbackPath) return await takeBack();
        if (selvedge.path === options.logout.path) {
          assertOwnWish(request, base);
          const done = await logOut(sessions.open(jar), jar, base, logout);
          count('logged_out');
          return redirect(reply, 303, done);
        }
        if (selvedge.route === null) return;
        const found = await sessions.find(request, jar);
        if (found instanceof Refused) {
          if (!isNavigation(request)) throw found;
          const begun = await login.begin(request, jar, base);
          selvedge.because = `oidc_${found.because}`;
          count('login');
          return redirect(reply, 302, begun);
        }
        const { session, changed } = found;
        if (changed) {
          for (const cookie of login.writeSession(session, jar, base)) reply.header('set-cookie', cookie);
          renewed.add(request);
        }
        pass(request, session);
        count('session');
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        selvedge.because = `oidc_${error.because}`;
        count(error.reason);
        report(error);
        throw error.error();
      }

      async function takeBack() {
        const query = new URLSearchParams(selvedge.query);
        for (const name of ['code', 'state']) selvedge.dropQuery(name);
        if (request.method !== 'GET') throw new Refused('callback_malformed', 'the way back is a GET');
        // One code, one try: whatever comes of it.
        const id = loginId(query.get('state') ?? '');
        if (jar.logins.has(id))
          for (const cookie of base.cookies.removeLogins([id], { surplus: [] })) reply.header('set-cookie', cookie);
        const done = await login.finish(request, query, jar, base);
        count('logged_in');
        return redirect(reply, 303, done);
      }
    });

    app.addHook('onSend', (request, reply, payload, done) => {
      if (renewed.has(request)) reply.header('cache-control', 'no-store');
      done(null, payload);
    });

    function pass(request: FastifyRequest, session: Session): void {
      const { claims, scope, accessToken } = session;
      for (const refusal of [scopes({ scope }), ...requirements.map((requirement) => requirement(claims))])
        if (refusal instanceof Refusal) throw new Refused(refusal.reason === 'scope' ? 'scope' : 'claim', refusal.why);
      (request as { user: unknown }).user = claims;
      for (const { name, value } of told) {
        const text = value(claims);
        if (text !== null) request.headers[name] = text;
      }
      if (tokenHeader === undefined) return;
      delete request.headers[tokenHeader];
      if (accessToken === null) return;
      request.headers[tokenHeader] = tokenHeader === 'authorization' ? `Bearer ${accessToken}` : accessToken;
    }
  },
);

/** Whether a person is to see the answer as a page: nobody else can log in. */
function isNavigation({ method, headers, selvedge }: FastifyRequest): boolean {
  if ((method !== 'GET' && method !== 'HEAD') || selvedge.upgrade !== null) return false;
  if (headers['x-requested-with'] !== undefined) return false;
  const mode = headers['sec-fetch-mode'];
  return (mode === undefined || mode === 'navigate') && /\btext\/html\b/i.test(headers.accept ?? '');
}

function redirect(reply: FastifyReply, status: number, { location, cookies }: Redirect): FastifyReply {
  for (const cookie of cookies) reply.header('set-cookie', cookie);
  reply.code(status).header('location', location).header('cache-control', 'no-store');
  return reply.header('referrer-policy', 'no-referrer').send();
}

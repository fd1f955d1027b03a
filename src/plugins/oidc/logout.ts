// Ends a session: the cookies here, the refresh token and the session at the provider; and only when the person in front of the browser wants it.
import type { FastifyRequest } from 'fastify';
import type { Base } from './base.ts';
import type { Authenticate } from './client-auth.ts';
import type { Jar } from './cookies.ts';
import type { Redirect } from './login.ts';
import type { Provider } from './provider.ts';
import { Refused } from './refusal.ts';
import type { Session } from './session.ts';

/** Characters of an ID token that a URL has room for. */
const MAX_HINT = 6_000;

export interface LogoutSettings {
  readonly clientId: string;
  readonly redirectTo: string;
  readonly atProvider: boolean;
  readonly provider: Provider;
  readonly authenticate: Authenticate;
  /** Of a refresh token that could not be revoked. */
  readonly onFailure: (error: Refused) => void;
}

/** Throws Refused. Fetch Metadata where the browser sends it, `Origin` where not; a GET without either could be from anywhere. */
export function assertOwnWish({ method, headers }: FastifyRequest, { origin }: Base): void {
  if (method !== 'POST' && method !== 'GET') throw new Refused('logout_method', 'logging out is a POST or GET');
  const site = headers['sec-fetch-site'];
  const from = headers.origin;
  const own =
    site !== undefined
      ? site === 'same-origin' || site === 'none'
      : from !== undefined
        ? from === origin
        : method === 'POST';
  if (!own) throw new Refused('cross_site_logout', 'logging out was not asked for by a page of this site');
}

export async function logOut(
  session: Session | null,
  jar: Jar,
  { origin, cookies }: Base,
  settings: LogoutSettings,
): Promise<Redirect> {
  const { clientId, redirectTo, atProvider, provider } = settings;
  const removed = [...cookies.removeSession(jar), ...cookies.removeLogins(jar.logins.keys(), jar)];
  const here = { location: redirectTo, cookies: removed };
  if (session === null) return here;
  // Down or not: here the session ends.
  const metadata = await provider.metadata().catch(() => null);
  if (metadata === null) return here;
  const { revocationEndpoint, endSessionEndpoint } = metadata;
  if (revocationEndpoint !== null && session.refreshToken !== null)
    void revoke(revocationEndpoint, session.refreshToken, settings);
  if (!atProvider || endSessionEndpoint === null) return here;
  // OpenID Connect RP-Initiated Logout 1.0 section 2.
  const url = new URL(endSessionEndpoint);
  const { idToken } = session;
  if (idToken !== null && idToken.length <= MAX_HINT) url.searchParams.set('id_token_hint', idToken);
  url.searchParams.set('client_id', clientId);
  url.searchParams.set('post_logout_redirect_uri', new URL(redirectTo, origin).href);
  return { location: url.href, cookies: removed };
}

async function revoke(endpoint: string, token: string, settings: LogoutSettings): Promise<void> {
  const body = new URLSearchParams({ token, token_type_hint: 'refresh_token' });
  const headers = new Headers();
  settings.authenticate(body, headers);
  try {
    await settings.provider.revoke(endpoint, body, headers);
  } catch (error) {
    settings.onFailure(error as Refused);
  }
}

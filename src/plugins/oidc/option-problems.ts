// What is wrong with the options of the oidc plugin beyond their shape, for `selvedge check`: nothing is asked of the network.
import { type OptionProblem, parseDurationMs } from '../../plugin.ts';
import { headerNameProblems } from '../identity-header.ts';
import { keyUrlProblem } from '../jwt/fetch-keys.ts';
import { signingKey } from './client-auth.ts';
import type { OidcOptions } from './options.ts';

/** Bytes; of AES-256. */
const MIN_SECRET = 32;
const MAX_MS = { clockSkew: 600_000, timeout: 30_000, maxAge: 400 * 86_400_000, idle: 400 * 86_400_000 };
/** What the protocol or this plugin says itself. */
const OWN_PARAMS: ReadonlySet<string> = new Set([
  'client_id',
  'client_secret',
  'code_challenge',
  'code_challenge_method',
  'nonce',
  'redirect_uri',
  'request',
  'request_uri',
  'response_mode',
  'response_type',
  'scope',
  'state',
]);
const PATH = /^\/(?!\/)[A-Za-z0-9/._~-]*$/;

export function oidcProblems(options: OidcOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const problem = (path: string, message: string): void => void problems.push({ path, message });
  const wrong = keyUrlProblem(options.issuer, false);
  if (wrong !== null) problem('issuer', wrong.replace(', or say allowHttp: true', ''));
  if (!options.scopes.includes('openid')) problem('scopes', 'must have "openid": without it there is no ID token');
  for (const name of Object.keys(options.authorizationParams))
    if (OWN_PARAMS.has(name)) problem(`authorizationParams.${name}`, 'is set by Selvedge');
  for (const [index, secret] of [options.cookieSecret].flat().entries())
    if (Buffer.byteLength(secret) < MIN_SECRET)
      problem(
        Array.isArray(options.cookieSecret) ? `cookieSecret[${index}]` : 'cookieSecret',
        `must have at least ${MIN_SECRET} bytes, such as "openssl rand -hex 32" prints`,
      );
  clientProblems(options, problem);
  placeProblems(options, problem);
  durationProblems(options, problem);
  return [...problems, ...headerProblems(options)];
}

type Problem = (path: string, message: string) => void;

function clientProblems(options: OidcOptions, problem: Problem): void {
  const { clientSecret, clientAuthentication, privateKey, keyId } = options;
  if (clientSecret !== undefined && privateKey !== undefined)
    problem('privateKey', 'cannot stand beside "clientSecret": the client shows one of them');
  if (clientAuthentication !== undefined && clientSecret === undefined)
    problem('clientAuthentication', 'does nothing without a "clientSecret"');
  if (keyId !== undefined && privateKey === undefined) problem('keyId', 'does nothing without a "privateKey"');
  if (privateKey === undefined) return;
  try {
    signingKey(privateKey);
  } catch (error) {
    problem('privateKey', (error as Error).message);
  }
}

function placeProblems({ baseUrl, callbackPath, cookie, logout }: OidcOptions, problem: Problem): void {
  const { domain, path, sameSite, secure } = cookie;
  for (const [index, written] of [baseUrl].flat().entries()) {
    const at = Array.isArray(baseUrl) ? `baseUrl[${index}]` : 'baseUrl';
    const url = URL.canParse(written) ? new URL(written) : null;
    if (url === null || !/^https?:$/.test(url.protocol) || (written !== url.origin && written !== `${url.origin}/`)) {
      problem(at, `"${written}" is not scheme, host and port alone, such as https://shop.example.com`);
      continue;
    }
    if (keyUrlProblem(written, secure === false) !== null)
      problem(at, 'is http, where sessions can be read on the way: use https, or say cookie.secure: false');
    if (secure === true && url.protocol === 'http:') problem('cookie.secure', `cannot be for ${written}`);
    if (sameSite === 'None' && (secure ?? url.protocol === 'https:') === false)
      problem('cookie.sameSite', 'None needs cookies that are secure');
    if (domain !== undefined && url.hostname !== domain && !url.hostname.endsWith(`.${domain}`))
      problem('cookie.domain', `"${domain}" is no domain of ${written}`);
  }
  const paths = { callbackPath, 'cookie.path': path, 'logout.path': logout.path };
  for (const [at, written] of Object.entries(paths))
    if (!PATH.test(written) || new URL(written, 'http://a').pathname !== written)
      problem(at, 'must be a plain path such as /oauth2/callback');
  if (callbackPath === logout.path) problem('logout.path', 'must differ from "callbackPath"');
  if (path !== '/' && !`${logout.path}/`.startsWith(path.endsWith('/') ? path : `${path}/`))
    problem('logout.path', `must lie below ${path}, the path of the cookie: otherwise no session comes along`);
  const { redirectTo } = logout;
  const isPath = /^\/(?![/\\])[\x21-\x7e]*$/.test(redirectTo);
  if (!isPath && keyUrlProblem(redirectTo, false) !== null)
    problem('logout.redirectTo', 'must be a path or an https URL');
}

function durationProblems({ clockSkew, timeout, session }: OidcOptions, problem: Problem): void {
  const least = { clockSkew: 0, timeout: 100, maxAge: 60_000, idle: 60_000 };
  const written = { clockSkew, timeout, maxAge: session.maxAge, idle: session.idle };
  for (const name of ['clockSkew', 'timeout', 'maxAge', 'idle'] as const) {
    const ms = parseDurationMs(written[name]) ?? Number.NaN;
    const path = name === 'maxAge' || name === 'idle' ? `session.${name}` : name;
    if (!(ms >= least[name] && ms <= MAX_MS[name]))
      problem(path, `must be from ${least[name] / 1_000} s to ${MAX_MS[name] / 1_000} s`);
  }
}

function headerProblems({ claimsToHeaders, accessTokenHeader }: OidcOptions): OptionProblem[] {
  const token = accessTokenHeader?.toLowerCase();
  const names = Object.values(claimsToHeaders).map((name) => name.toLowerCase());
  const problems = Object.keys(claimsToHeaders).flatMap((claim, index) =>
    headerNameProblems(`claimsToHeaders.${claim}`, names[index], [
      ...names.slice(0, index),
      ...(token === undefined ? [] : [token]),
    ]),
  );
  return token === 'authorization' ? problems : [...problems, ...headerNameProblems('accessTokenHeader', token, [])];
}

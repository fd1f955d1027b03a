// What is wrong with the options of the jwt plugin beyond their shape, for `selvedge check`: nothing is asked of the network.
import { headerChangeProblems } from '../../http/header-changes.ts';
import { type OptionProblem, parseDurationMs } from '../../plugin.ts';
import { keyUrlProblem } from './fetch-keys.ts';
import { type Algorithm, parseKeys } from './keys.ts';
import { type IssuerOptions, issuerFields, type JwtOptions, tokenPlace } from './options.ts';

const MAX_SKEW_MS = 600_000;
const MIN_REFRESH_MS = 1_000;

export function jwtProblems(options: JwtOptions): OptionProblem[] {
  const { issuers, issuer, token, jwksCache, clockSkew, scopes, scopeClaim } = options;
  const problems: OptionProblem[] = [];
  const problem = (path: string, message: string): void => void problems.push({ path, message });
  if (issuers !== undefined) {
    for (const path of ['issuer', ...Object.keys(issuerFields)] as (keyof IssuerOptions & string)[])
      if (options[path] !== undefined) problem(path, 'belongs into an entry of "issuers" when there are several');
    const names = issuers.map((one) => one.issuer);
    for (const [index, one] of issuers.entries()) {
      if (names.indexOf(one.issuer) < index) problem(`issuers[${index}].issuer`, `"${one.issuer}" stands here twice`);
      problems.push(...issuerProblems(one, `issuers[${index}].`));
    }
  } else if (issuer === undefined) problem('', 'needs an "issuer", or several as "issuers"');
  else problems.push(...issuerProblems(options as IssuerOptions, ''));

  if (!((parseDurationMs(jwksCache) ?? 0) >= MIN_REFRESH_MS)) problem('jwksCache', 'must be at least 1s');
  if (!((parseDurationMs(clockSkew) ?? MAX_SKEW_MS + 1) <= MAX_SKEW_MS))
    problem('clockSkew', 'must be whole milliseconds, at most 10m');
  if (token !== undefined && Object.keys(token).length !== 1)
    problem('token', 'must be one of header, cookie and query');
  if (scopeClaim !== undefined && scopes.length === 0) problem('scopeClaim', 'does nothing without "scopes"');
  return [...problems, ...headerProblems(options)];
}

function issuerProblems(written: IssuerOptions, at: string): OptionProblem[] {
  const { issuer, audience, jwks, keys, secret, algorithms, allowHttp = false } = written;
  const problems: OptionProblem[] = [];
  const problem = (path: string, message: string): void => void problems.push({ path: `${at}${path}`, message });
  if (audience === undefined)
    problem('audience', 'is missing: say whom tokens are for, or false when they may be for anybody');
  const given = Object.entries({ jwks, keys, secret }).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (given.length > 1) problem(given[1], `cannot stand beside "${given[0]}": keys come from one of them`);
  if (allowHttp && given.some((name) => name !== 'jwks')) problem('allowHttp', 'does nothing: no keys are fetched');

  if (secret !== undefined) problems.push(...secretProblems(secret, algorithms ?? ['HS256'], at));
  else {
    for (const [index, name] of (algorithms ?? []).entries())
      if (name.startsWith('HS'))
        problem(`algorithms[${index}]`, `${name} needs a "secret": with public keys anybody could sign`);
  }
  if (keys !== undefined) {
    try {
      const set = parseKeys(keys);
      for (const [index, name] of (algorithms ?? []).entries())
        if (!set.keys.some((key) => key.algorithms.includes(name)))
          problem(`algorithms[${index}]`, `none of the keys is for ${name}`);
      for (const [index, key] of set.keys.entries())
        if (algorithms !== undefined && !key.algorithms.some((name) => algorithms.includes(name)))
          problem('keys', `key ${index + 1} is for ${key.algorithms.join(', ')}, none of which "algorithms" allows`);
    } catch (error) {
      problem('keys', (error as Error).message);
    }
  }
  if (given.length === 0 || jwks !== undefined) {
    const wrong = keyUrlProblem(jwks ?? issuer, allowHttp);
    if (wrong !== null && jwks !== undefined) problem('jwks', wrong);
    else if (wrong !== null)
      problem('issuer', `${wrong}; where keys cannot be discovered, "jwks", "keys" or "secret" is needed`);
  }
  return problems;
}

function secretProblems(secret: string, algorithms: readonly Algorithm[], at: string): OptionProblem[] {
  const problems: OptionProblem[] = [];
  for (const [index, name] of algorithms.entries())
    if (!name.startsWith('HS'))
      problems.push({ path: `${at}algorithms[${index}]`, message: `${name} needs public keys, not a "secret"` });
  if (/-----BEGIN |"kty"/.test(secret))
    problems.push({
      path: `${at}secret`,
      message: 'is a key for others to see or of another kind: public keys belong into "keys"',
    });
  // RFC 7518 section 3.2.
  const needed = Math.max(...algorithms.map((name) => (name.startsWith('HS') ? Number(name.slice(2)) / 8 : 0)));
  if (Buffer.byteLength(secret) < needed)
    problems.push({ path: `${at}secret`, message: `must have at least ${needed} bytes` });
  return problems;
}

/** The proxy's own: they are written after all plugins. */
const OVERWRITTEN = /^(?:via|forwarded|x-forwarded-.*|x-selvedge-.*)$/;

function headerProblems(options: JwtOptions): OptionProblem[] {
  const place = tokenPlace(options);
  const names = Object.values(options.claimsToHeaders).map((name) => name.toLowerCase());
  const problems = Object.keys(options.claimsToHeaders).flatMap((claim, index): OptionProblem[] => {
    const name = names[index];
    const path = `claimsToHeaders.${claim}`;
    const [wrong] = headerChangeProblems({ set: { [name]: '' } }, 'request');
    if (wrong !== undefined) return [{ path, message: wrong.message }];
    if (OVERWRITTEN.test(name)) return [{ path, message: `"${name}" is set by Selvedge` }];
    if (names.indexOf(name) < index) return [{ path, message: `"${name}" stands here twice` }];
    const read = place.kind === 'header' ? place.name : place.kind;
    if (name === 'authorization' || name === 'cookie' || name === read)
      return [{ path, message: `"${name}" has credentials, which would be removed before they are read` }];
    return [];
  });
  if (place.kind !== 'header') return problems;
  const [wrong] = headerChangeProblems({ set: { [place.name]: '' } }, 'request');
  return wrong === undefined ? problems : [...problems, { path: 'token.header', message: wrong.message }];
}

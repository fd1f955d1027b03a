// Lets a request through whose token an issuer of the config has signed, and says what the token claims: `request.user`, and headers for the service.
import type { FastifyRequest } from 'fastify';
import { definePlugin, parseDurationMs } from '../plugin.ts';
import { setUpIssuer } from './jwt/issuer.ts';
import { jwtProblems } from './jwt/option-problems.ts';
import { jwtOptions, tokenPlace, writtenIssuers } from './jwt/options.ts';
import { Refusal } from './jwt/refusal.ts';
import { claimRequirement, headerOfClaim, scopeRequirement } from './jwt/requirements.ts';
import { digestOf, remoteKeys, requestCounter } from './jwt/shared-state.ts';
import { tokenFinder } from './jwt/token.ts';
import { type Claims, VerifiedTokens } from './jwt/verified-tokens.ts';
import { Verifier } from './jwt/verifier.ts';

export default definePlugin(
  {
    name: 'jwt',
    options: jwtOptions,
    check: jwtProblems,
    identityHeaders: ({ claimsToHeaders }) => Object.values(claimsToHeaders),
  },
  async (app, options) => {
    const skewMs = parseDurationMs(options.clockSkew) as number;
    const refreshMs = parseDurationMs(options.jwksCache) as number;
    const dir = options.jwksDir === false ? null : options.jwksDir;
    const { optional, scopes } = options;
    const find = tokenFinder(tokenPlace(options));
    const counted = requestCounter(app);
    const written = writtenIssuers(options);
    const issuers = [];
    for (const issuer of written) {
      const source =
        issuer.keys === null ? await remoteKeys(app, issuer, refreshMs, dir) : { keys: issuer.keys, failing: false };
      issuers.push(await setUpIssuer(app, { ...issuer, source }, skewMs));
    }
    // Good here is good only where the same is asked of tokens.
    const digest = digestOf([written, skewMs, refreshMs, dir]);
    const verified = app.shared(`jwt verified ${digest}`, () => new VerifiedTokens());
    const verifier = new Verifier(issuers, verified, skewMs);
    const requirements = [
      ...Object.entries(options.claims).map(([name, wanted]) => claimRequirement(name, wanted)),
      ...(scopes.length === 0 ? [] : [scopeRequirement(scopes, options.scopeClaim ?? null)]),
    ];
    const told = Object.entries(options.claimsToHeaders).map(([claim, name]) => {
      return { name: name.toLowerCase(), value: headerOfClaim(claim) };
    });

    function pass(request: FastifyRequest, claims: Claims): Refusal | null {
      for (const requirement of requirements) {
        const refusal = requirement(claims);
        if (refusal !== null) return refusal;
      }
      (request as { user: unknown }).user = claims;
      for (const { name, value } of told) {
        const text = value(claims);
        if (text !== null) request.headers[name] = text;
      }
      return null;
    }

    function end(request: FastifyRequest, result: Claims | Refusal, done: (error?: Error) => void): void {
      const refusal = result instanceof Refusal ? result : pass(request, result);
      if (refusal === null) {
        counted.verified.pending++;
        done();
        return;
      }
      counted.counter.inc({ result: 'refused', reason: refusal.reason });
      request.selvedge.because = `jwt_${refusal.reason}`;
      done(refusal.error(scopes));
    }

    app.addHook('onRequest', (request, _reply, done) => {
      // Refused before a route was chosen: that answer says more than ours would.
      const token = request.selvedge.route === null ? undefined : find(request);
      if (token === undefined) done();
      else if (token === null && optional) {
        counted.counter.inc({ result: 'absent', reason: '' });
        done();
      } else if (token === null) end(request, new Refusal('missing', 'the request has no token'), done);
      else if (token instanceof Refusal) end(request, token, done);
      else {
        const verifying = verifier.verify(request, token);
        if (verifying instanceof Promise) verifying.then((result) => end(request, result, done), done);
        else end(request, verifying, done);
      }
    });
  },
);

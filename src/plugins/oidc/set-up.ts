// Puts the parts of the plugin together from its options: what chains share, and what is theirs alone.
import type { FastifyInstance } from 'fastify';
import { Counter, parseDurationMs } from '../../plugin.ts';
import { ASYMMETRIC } from '../jwt/keys.ts';
import { digestOf } from '../jwt/shared-state.ts';
import { basesOf } from './base.ts';
import { clientAuthentication } from './client-auth.ts';
import { idTokenChecker } from './id-token.ts';
import { Login } from './login.ts';
import type { LogoutSettings } from './logout.ts';
import type { OidcOptions } from './options.ts';
import { Provider } from './provider.ts';
import type { Refused } from './refusal.ts';
import { Renewals } from './renewal.ts';
import { Sealer } from './sealer.ts';
import type { SessionRules } from './session.ts';
import { Sessions } from './sessions.ts';

const TOTAL = 'selvedge_oidc_total';
/** Between two lines of the log about the same chain. */
const REPORT_MS = 10_000;

export async function setUp(app: FastifyInstance, options: OidcOptions) {
  const { issuer, clientId, scopes, clientSecret = null, privateKey = null, keyId = null } = options;
  const { owner } = app.chain;
  const now = Date.now;
  const total = app.shared(
    'oidc metrics',
    () =>
      new Counter({
        name: TOTAL,
        help: 'Requests that needed a session, logins and renewals, by what came of them',
        labelNames: ['owner', 'result'],
        registers: [app.metrics],
      }),
    () => app.metrics.removeSingleMetric(TOTAL),
  );
  const count = (result: string): void => total.inc({ owner, result });

  let reportedAt = Number.NEGATIVE_INFINITY;
  /** Those of which the operator has to know: the client is told nothing of them. */
  function report(error: Refused): void {
    if ((!error.unavailable && error.reason !== 'id_token') || now() - reportedAt < REPORT_MS) return;
    reportedAt = now();
    app.logger.warn({ issuer, reason: error.because }, `oidc: ${error.message}`);
  }

  const provider = openProvider(app, issuer, parseDurationMs(options.timeout) as number);
  const authenticate = clientAuthentication(
    {
      id: clientId,
      secret: clientSecret,
      secretInBody: options.clientAuthentication === 'client_secret_post',
      privateKey,
      keyId,
    },
    issuer,
  );
  const skewMs = parseDurationMs(options.clockSkew) as number;
  const { algorithms = ASYMMETRIC } = options;
  const checkIdToken = await idTokenChecker(app, { issuer, clientId, algorithms, skewMs });
  const sealer = new Sealer([options.cookieSecret].flat(), [issuer, clientId]);
  const rules: SessionRules = {
    maxAgeMs: parseDurationMs(options.session.maxAge) as number,
    idleMs: parseDurationMs(options.session.idle) as number,
    keepsAccessToken: options.accessTokenHeader !== undefined,
    keepsIdToken: options.logout.provider,
  };
  const parts = { provider, authenticate, checkIdToken, sealer, rules, now };
  const logout: LogoutSettings = {
    clientId,
    redirectTo: options.logout.redirectTo,
    atProvider: options.logout.provider,
    provider,
    authenticate,
    onFailure: (error) => {
      count('revocation_failed');
      report(error);
    },
  };
  return {
    baseOf: basesOf(options),
    login: new Login({ ...parts, issuer, clientId, scopes, params: options.authorizationParams }),
    sessions: new Sessions({
      ...parts,
      whose: JSON.stringify([issuer, clientId]),
      renewals: app.shared('oidc renewals', () => new Renewals()),
      onRenewal: (error) => {
        count(error === null ? 'renewed' : error.unavailable ? 'renewal_failed' : 'renewal_refused');
        if (error !== null) report(error);
      },
    }),
    logout,
    count,
    report,
  };
}

function openProvider({ shared, logger }: FastifyInstance, issuer: string, timeoutMs: number): Provider {
  return shared(
    `oidc provider ${digestOf([issuer, timeoutMs])}`,
    () =>
      new Provider({
        issuer,
        timeoutMs,
        onFetched: (err, changed) => {
          if (err !== null && changed) logger.warn({ err, issuer }, 'the OpenID provider does not say what it is');
          else if (changed) logger.info({ issuer }, 'the OpenID provider is back');
        },
      }),
    (provider) => provider.close(),
  );
}

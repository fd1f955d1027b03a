import t from 'tap';
import { healthOf } from '../../src/runtime/health.ts';

const ID = 'spiffe://shop.internal/service/a';
const AT = '2026-11-21T12:00:00.000Z';

const identity = (expired: boolean) => ({
  trustDomain: 'shop.internal',
  trusted: ['shop.internal'],
  certificates: [{ id: ID, notBefore: AT, expiresAt: AT, expired }],
  warnings: ['could not be renewed'],
});

const snapshot = (unchecked: readonly string[]) => ({
  unchecked,
  appProblems: (first: boolean) => (first ? ['the application is unknown'] : ['the application has ended']),
});

t.test('a certificate that ended wants no traffic; one that could not be renewed is a warning', async (t) => {
  t.strictSame(healthOf(snapshot([]), identity(false), false, 3), {
    reasons: ['the application has ended'],
    warnings: ['could not be renewed'],
    inFlight: 3,
  });
  t.ok(healthOf(null, identity(true), false, 0).reasons.includes(`the certificate of ${ID} expired at ${AT}`));
});

t.test('services that were never checked count with the first config only', async (t) => {
  const health = (first: boolean) => healthOf(snapshot(['orders']), null, first, 0).reasons;
  t.strictSame(health(true), ['service "orders" has not been checked yet', 'the application is unknown']);
  t.strictSame(health(false), ['the application has ended']);
});

// What policies say of a connection, which has no method, no path and no header.
import t from 'tap';
import { type AuthorizationRules, authorize, compileAuthorization } from '../../src/policies/authorization.ts';
import { connectionToAuthorize, httpConditions, rulesForTcp } from '../../src/policies/authorization-tcp.ts';
import { allow, deny, peer, rule } from './support/authorization.ts';

const CART = ['spiffe://shop.internal/service/cart'];

function verdict(policies: readonly AuthorizationRules[], caller: string | null = 'service/cart'): string {
  const connection = connectionToAuthorize(caller === null ? null : peer(caller), '10.0.0.5');
  const { verdict, policy } = authorize(compileAuthorization('service db', rulesForTcp(policies)), connection);
  return `${verdict} by ${policy}`;
}

t.test('caller and address decide', async (t) => {
  t.equal(verdict([allow('cart', { from: CART })]), 'allowed by cart');
  t.equal(verdict([allow('cart', { from: CART })], 'service/search'), 'denied by default deny of service db');
  t.equal(verdict([allow('cart', { from: CART })], null), 'denied by default deny of service db');
  t.equal(verdict([allow('near', { clientAddress: ['10.0.0.0/8'] })], null), 'allowed by near');
  t.equal(verdict([deny('near', { clientAddress: ['10.0.0.0/8'] })]), 'denied by near');
  t.equal(verdict([deny('others', { not: rule({ from: CART }) })]), 'allowed by null');
});

t.test('an allow rule that needs a request lets nobody in', async (t) => {
  const none = 'denied by default deny of service db';
  t.equal(verdict([allow('reads', { from: CART, methods: ['GET'] })]), none);
  t.equal(verdict([allow('root', { from: CART, paths: [{ kind: 'prefix', value: '/' }] })]), none);
  t.equal(verdict([allow('no-deletes', { from: CART, not: rule({ methods: ['DELETE'] }) })]), none);
  t.equal(verdict([allow('beta', { headers: [{ name: 'x-group', kind: 'absent', value: '' }] })]), none);
  t.equal(verdict([allow('reads', { methods: ['GET'] }, { from: CART })]), 'allowed by reads', 'by its other rule');
});

t.test(
  'a deny rule that needs a request denies no connection, and one with such an exception denies all',
  async (t) => {
    t.equal(verdict([deny('no-deletes', { methods: ['DELETE'] })]), 'allowed by null');
    t.equal(verdict([deny('no-writes', { from: CART, not: rule({ methods: ['GET'] }) })]), 'denied by no-writes');
    t.equal(
      verdict([deny('no-writes', { from: CART, not: rule({ methods: ['GET'] }) })], 'service/a'),
      'allowed by null',
    );
  },
);

t.test('which conditions those are', async (t) => {
  t.strictSame(httpConditions(rule({ from: CART, clientAddress: [] })), []);
  t.strictSame(httpConditions(rule({ methods: [], hosts: ['a'] })), ['methods', 'hosts']);
});

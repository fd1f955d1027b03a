import fc from 'fast-check';
import t from 'tap';
import { SelvedgeError } from '../../src/errors.ts';
import type { Role } from '../../src/plugin.ts';
import { passThrough } from '../../src/proxy/hop-path.ts';

type Hop = readonly [Role, string];

/** Sends a request through these hops, one after another; `app`: an application that copies every header into a new request. */
function journey(...steps: readonly (Hop | 'app')[]): string | SelvedgeError {
  let path: string | SelvedgeError = '';
  for (const step of steps) {
    if (step === 'app') continue;
    path = passThrough(path === '' ? undefined : path, ...step);
    if (typeof path !== 'string') return path;
  }
  return path;
}

const out = (owner: string): Hop => ['outbound', owner];
const into = (owner: string): Hop => ['inbound', owner];

t.test('hops are told one after another', async (t) => {
  t.equal(journey(out('orders')), '1;outbound/orders');
  t.equal(journey(out('orders'), into('stock')), '2;outbound/orders,inbound/stock');
});

t.test('a hop that leads to itself is stopped, and the message says which', async (t) => {
  for (const side of [into, out]) {
    const [role] = side('orders');
    const error = journey(...Array.from({ length: 5 }, () => side('orders')));
    t.match(error, { code: 'SLV_LOOP_DETECTED', statusCode: 508 });
    t.match((error as SelvedgeError).message, `${role}/orders > ${role}/orders > ${role}/orders`);
  }
});

t.test('so are hops that lead to each other, also over an outbound side', async (t) => {
  const rounds = (...circle: Hop[]) => journey(...Array.from({ length: 100 }, () => circle).flat());
  t.match(rounds(into('a'), into('b')), { code: 'SLV_LOOP_DETECTED' });
  t.match(rounds(out('a'), out('b'), out('c')), { code: 'SLV_LOOP_DETECTED' });
  t.match(rounds(into('a'), out('a')), { code: 'SLV_LOOP_DETECTED' });
  t.match(rounds(out('a'), into('b')), { code: 'SLV_LOOP_DETECTED' });
  const many = Array.from({ length: 17 }, (_, index) => into(`s${index}`));
  t.match(journey(...many), { code: 'SLV_LOOP_DETECTED' });
  t.match((journey(...many) as SelvedgeError).message, /16 hops without an application/);
  t.type(journey(...many.slice(1)), 'string');
});

t.test('services that call each other in turn are no circle, even where they copy every header', async (t) => {
  const call = (from: string, to: string) => [out(from), into(to), 'app'] as const;
  const recursion = Array.from({ length: 10 }, () => [...call('orders', 'stock'), ...call('stock', 'orders')]).flat();
  t.type(journey(...recursion), 'string');
  t.type(journey(...call('a', 'a'), ...call('a', 'a'), ...call('a', 'a')), 'string', 'nor is one that calls itself');
  t.type(journey(into('a'), 'app', into('b'), 'app', into('a')), 'string', 'nor past their own hops, once');
});

t.test('what no hop has written counts as nothing', async (t) => {
  for (const written of [
    '',
    ';',
    'x',
    '1',
    ';a',
    '-1;inbound/a',
    '0;a',
    '1.5;a',
    '1e999;a',
    'NaN;a',
    ['1;a', '1;a'],
    7,
  ])
    t.equal(passThrough(written, 'inbound', 'a'), '1;inbound/a', JSON.stringify(written));
  t.equal(passThrough(`1;${'inbound/a,'.repeat(300)}`, 'inbound', 'a'), '1;inbound/a', 'too long for a hop');
});

t.test('whatever is received, the answer is short or an error, and every circle ends', async () => {
  const hop = fc.tuple(fc.constantFrom<Role>('inbound', 'outbound'), fc.constantFrom('a', 'b', 'c'));
  fc.assert(
    fc.property(fc.string({ maxLength: 3_000 }), hop, (received, [role, owner]) => {
      const path = passThrough(received, role, owner);
      return typeof path !== 'string' || (path.length < 2_200 && path.endsWith(`${role}/${owner}`));
    }),
  );
  fc.assert(
    fc.property(fc.array(hop, { minLength: 1, maxLength: 6 }), (circle) => {
      const steps = Array.from({ length: 65 }, () => circle).flat();
      return journey(...steps) instanceof SelvedgeError;
    }),
  );
});

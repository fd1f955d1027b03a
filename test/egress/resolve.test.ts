// Names on their way to addresses: remembered for a while, asked for once, bounded, and every address in one spelling.
import t from 'tap';
import { FAILURE_TTL_MS, MAX_NAMES, Resolver, TTL_MS } from '../../src/egress/resolve.ts';
import { fakeWheel } from '../support/fake-clock.ts';

function resolver(lookup: (host: string) => Promise<readonly string[]>) {
  const { wheel, clock } = fakeWheel();
  const asked: string[] = [];
  const made = new Resolver({
    wheel,
    lookup: (host) => {
      asked.push(host);
      return lookup(host);
    },
  });
  return { resolver: made, clock, asked };
}

t.test('an answer holds for its time, in one spelling, and an address is never looked up', async (t) => {
  const {
    resolver: names,
    clock,
    asked,
  } = resolver(async () => ['::ffff:1.1.1.1', '2606::0001', '1.1.1.1', 'nonsense']);
  for (let time = 0; time < 3; time++) t.strictSame(await names.resolve('a.test'), ['1.1.1.1', '2606::1']);
  t.strictSame(asked, ['a.test']);
  clock.advance(TTL_MS + 1);
  await names.resolve('a.test');
  t.strictSame(asked, ['a.test', 'a.test']);
  t.strictSame(await names.resolve('127.0.0.1'), ['127.0.0.1']);
  t.strictSame(await names.resolve('::1'), ['::1']);
  t.equal(asked.length, 2);
});

t.test('whoever asks at the same time shares one lookup', async (t) => {
  let answer: (found: readonly string[]) => void = () => undefined;
  const { resolver: names, asked } = resolver(
    () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  );
  const both = Promise.all([names.resolve('a.test'), names.resolve('a.test')]);
  answer(['1.1.1.1']);
  t.strictSame(await both, [['1.1.1.1'], ['1.1.1.1']]);
  t.equal(asked.length, 1);
});

t.test('a failure is remembered for a moment only', async (t) => {
  let fails = true;
  const {
    resolver: names,
    clock,
    asked,
  } = resolver(async () => {
    if (fails) throw new Error('ENOTFOUND');
    return ['1.1.1.1'];
  });
  for (let time = 0; time < 2; time++)
    await t.rejects(names.resolve('a.test'), {
      code: 'SLV_UPSTREAM_DNS',
      message: /"a.test" cannot be resolved: ENOTFOUND/,
    });
  t.equal(asked.length, 1);
  fails = false;
  clock.advance(FAILURE_TTL_MS + 1);
  t.strictSame(await names.resolve('a.test'), ['1.1.1.1']);
});

t.test('a name without an address is a failure', async (t) => {
  await t.rejects(resolver(async () => []).resolver.resolve('a.test'), { code: 'SLV_UPSTREAM_DNS' });
});

t.test('a lookup that takes too long is given up, for all who wait, and lookups under way are bounded', async (t) => {
  const { resolver: names, clock } = resolver(() => new Promise(() => undefined));
  const all = Array.from({ length: 64 }, (_, index) => names.resolve(`${index}.test`));
  await t.rejects(names.resolve('one-more.test'), { code: 'SLV_UPSTREAM_DNS', message: /64 lookups are under way/ });
  const second = names.resolve('0.test');
  clock.advance(5_100);
  for (const one of [...all, second]) await t.rejects(one, { message: /took more than 5000 ms/ });
});

t.test('the name that was asked for longest ago is forgotten first', async (t) => {
  const { resolver: names, asked } = resolver(async () => ['1.1.1.1']);
  for (let index = 0; index < MAX_NAMES; index++) await names.resolve(`${index}.test`);
  await names.resolve('0.test');
  await names.resolve('new.test');
  asked.length = 0;
  await names.resolve('0.test');
  t.strictSame(asked, []);
  await names.resolve('1.test');
  t.strictSame(asked, ['1.test']);
});

// Which plugins a request meets: the rule of inheritance, against a second way of saying it.
import fc from 'fast-check';
import t from 'tap';
import type { PluginOff, PluginUse } from '../../src/config/model.ts';
import { type ChainLayer, composeChain, isDefault, routeLayers } from '../../src/routing/chain-list.ts';
import { explainChain } from '../../src/routing/explained-chain.ts';
import { at, HERE, plugin } from './support/fixtures.ts';

const effectiveChain = (inherited: readonly PluginUse[], own: readonly (PluginUse | PluginOff)[]) =>
  composeChain([
    { from: 'gateway public', plugins: inherited },
    { from: 'route a', plugins: own },
  ]).links.map(({ use }) => use);

t.test("a chain is the inherited list with the route's changes in place", async (t) => {
  const names = (list: readonly { name: string; options: unknown }[]) =>
    list.map(({ name, options }) => `${name}${JSON.stringify(options)}`);
  const inherited = [plugin('cors'), plugin('rate-limit', { max: 100 }), plugin('jwt')];
  t.strictSame(names(effectiveChain(inherited, [])), ['cors{}', 'rate-limit{"max":100}', 'jwt{}']);
  t.strictSame(names(effectiveChain(inherited, [plugin('tenant'), plugin('rate-limit', { max: 5 })])), [
    'cors{}',
    'rate-limit{"max":5}',
    'jwt{}',
    'tenant{}',
  ]);
  t.strictSame(names(effectiveChain(inherited, [{ off: 'cors', at: HERE }])), ['rate-limit{"max":100}', 'jwt{}']);
  t.strictSame(
    names(effectiveChain(inherited, [{ off: 'cors', at: HERE }, plugin('cors', { a: 1 })])),
    ['rate-limit{"max":100}', 'jwt{}', 'cors{"a":1}'],
    'off and again: in the new place',
  );
  t.strictSame(names(effectiveChain([plugin('h', { a: 1 }), plugin('h', { a: 2 })], [plugin('h', { a: 3 })])), [
    'h{"a":3}',
    'h{"a":2}',
  ]);
  t.strictSame(
    names(effectiveChain([plugin('h')], [plugin('h', { a: 1 }), plugin('h', { a: 2 })])),
    ['h{"a":1}', 'h{"a":2}'],
    'a second use of its own is another link',
  );
  t.strictSame(names(inherited), ['cors{}', 'rate-limit{"max":100}', 'jwt{}'], 'the inherited list is left alone');
});

const NAMES = ['a', 'b', 'c', 'd'];
const FROM = ['default', 'gateway public', 'listener https', 'route shop'];

/** Each name at most once as a use and once as an off, in any order. */
const list = fc
  .shuffledSubarray(NAMES.flatMap((name) => [`+${name}`, `-${name}`]))
  .map((items) => items.map((item) => ({ off: item[0] === '-', name: item.slice(1) })));

/** Told for each name by itself: where it stands and whose options it has. */
function expected(lists: readonly (readonly { off: boolean; name: string }[])[]): string[] {
  const standing = NAMES.flatMap((name) => {
    let place: readonly [number, number] | null = null;
    let options = '';
    for (const [layer, items] of lists.entries()) {
      if (items.some((item) => item.off && item.name === name)) place = null;
      const index = items.findIndex((item) => !item.off && item.name === name);
      if (index < 0) continue;
      place ??= [layer, index];
      options = FROM[layer];
    }
    return place === null ? [] : [{ text: `${name} of ${options}`, place: place[0] * 100 + place[1] }];
  });
  return standing.sort((one, other) => one.place - other.place).map(({ text }) => text);
}

t.test('default, gateway, listener, route: in order, replaced in place, switched off', async (t) => {
  fc.assert(
    fc.property(fc.tuple(list, list, list, list), (lists) => {
      const layers: ChainLayer[] = lists.map((items, layer) => ({
        from: FROM[layer],
        plugins: items.map(({ off, name }) => (off ? { off: name, at: HERE } : plugin(name))),
      }));
      const { links, off } = composeChain(layers);
      t.strictSame(
        links.map(({ use, from }) => `${use.name} of ${from}`),
        expected(lists),
      );
      const uses = lists.flat().filter((item) => !item.off).length;
      const accounted = [...links, ...off].reduce((sum, { replaced }) => sum + 1 + replaced.length, 0);
      t.equal(accounted, uses, 'every use is met, replaced or switched off');
      const [first] = FROM;
      for (const link of links) {
        const names = [...link.replaced, link].map(({ from }) => FROM.indexOf(from));
        t.strictSame(names, [...new Set(names)].sort(), 'the outermost first');
        t.equal(isDefault(link), (link.replaced[0] ?? link).from === first);
      }
    }),
    { numRuns: 300 },
  );
});

t.test('what became of each plugin is told with its places', async (t) => {
  const inherited = [
    { from: 'default', plugins: [plugin('metrics'), plugin('access-log')] },
    {
      from: 'gateway public',
      plugins: [
        { ...plugin('jwt'), at: at(4), locked: true as const },
        { ...plugin('cors'), at: at(5) },
      ],
    },
    { from: 'listener https', plugins: [{ ...plugin('cors'), at: at(8) }] },
  ];
  const plugins = [
    { ...plugin('cors'), at: at(20) },
    { off: 'access-log', at: at(21) },
  ];
  t.strictSame(explainChain(composeChain(routeLayers(inherited, { name: 'shop', plugins }))), {
    chain: [
      { plugin: 'metrics', from: 'default', place: '', locked: false, replaces: [] },
      { plugin: 'jwt', from: 'gateway public', place: 'shop.yaml:4:3', locked: true, replaces: [] },
      {
        plugin: 'cors',
        from: 'route shop',
        place: 'shop.yaml:20:3',
        locked: false,
        replaces: [
          { plugin: 'cors', from: 'gateway public', place: 'shop.yaml:5:3' },
          { plugin: 'cors', from: 'listener https', place: 'shop.yaml:8:3' },
        ],
      },
    ],
    off: [{ plugin: 'access-log', from: 'default', place: '', by: 'route shop', byPlace: 'shop.yaml:21:3' }],
  });
});

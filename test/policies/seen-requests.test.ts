// What is kept of requests under audit: bounded, whatever clients send.
import t from 'tap';
import { type SeenRequest, SeenRequests } from '../../src/policies/seen-requests.ts';

const seen = (parts: Partial<SeenRequest> = {}): SeenRequest => ({
  target: 'service orders',
  caller: 'spiffe://shop/service/cart',
  method: 'GET',
  path: '/orders',
  status: 200,
  policy: 'default deny of service orders',
  ...parts,
});

t.test('requests are counted by target, caller, path and method', async (t) => {
  const requests = new SeenRequests();
  for (const parts of [{}, {}, { method: 'POST' }, { caller: null }, { target: 'gateway public', caller: null }])
    requests.add(seen(parts));
  const path = (methods: object) => ({ kind: 'exact', value: '/orders', methods });
  t.strictSame(requests.list(), [
    {
      target: 'service orders',
      callers: [
        { caller: 'spiffe://shop/service/cart', paths: [path({ GET: 2, POST: 1 })] },
        { caller: null, paths: [path({ GET: 1 })] },
      ],
      unusable: {},
    },
    { target: 'gateway public', callers: [{ caller: null, paths: [path({ GET: 1 })] }], unusable: {} },
  ]);
});

t.test('a thousand callers are kept apart, and those beyond counted', async (t) => {
  const requests = new SeenRequests();
  for (let i = 0; i < 1_003; i++) requests.add(seen({ caller: `spiffe://shop/service/s${i}`, path: '/a;b' }));
  for (let i = 0; i < 1_003; i++) requests.add(seen({ caller: `spiffe://shop/service/s${i}` }));
  const [{ callers, unusable }] = requests.list();
  t.equal(callers.length, 1_000, 'what is unusable takes no room');
  t.strictSame(unusable, {
    'services may read their path in two ways': 1_003,
    'their callers are beyond the first 1000': 3,
  });
});

t.test('paths take no more room than fifty thousand parts', async (t) => {
  const requests = new SeenRequests();
  const letters = (n: number) => String.fromCharCode(97 + (n % 16), 97 + ((n >> 4) % 16));
  for (let i = 0; i < 60_000; i++) {
    const path = `/${letters(i >> 12)}/${letters((i >> 8) % 16)}/${letters((i >> 4) % 16)}/${letters(i % 16)}`;
    requests.add(seen({ path }));
  }
  const [{ callers, unusable }] = requests.list();
  const left = unusable['there was no room for their paths'];
  t.ok(left > 0 && left < 60_000, `${left} were left out`);
  const counted = callers[0].paths.reduce((sum, { methods }) => sum + methods.GET, 0);
  t.equal(counted + left, 60_000, 'every request is counted once');
});

import { availableParallelism } from 'node:os';
import t from 'tap';
import { createSelvedge } from '../../../src/index.ts';
import { workersOf, workersProblem } from '../../../src/runtime/workers/count.ts';

t.test('auto is one for each core', async (t) => {
  t.equal(workersOf({ workers: 'auto' }), availableParallelism());
  t.equal(workersOf({ workers: 3 }), 3);
});

t.test('the number stays as it was at start', async (t) => {
  t.equal(workersProblem({ workers: 2 }, { workers: 2 }, true), null);
  t.match(workersProblem({ workers: 5 }, { workers: 2 }, true), { path: 'workers', message: /2 now, 5 asked for/ });
});

t.test('the library serves by itself, and says so', async (t) => {
  const selvedge = await createSelvedge({
    config: {
      version: 1,
      workers: 2,
      admin: false,
      gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
      routes: [{ name: 'all', respond: { status: 200 } }],
    },
    logger: false,
  });
  await t.rejects(selvedge.start(), /workers: is for "selvedge run"/);
});

// Whether connections to endpoints are reused, as the metrics tell it.
import t from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, httpUpstream } from './support/sockets.ts';

const ROUND_ROBIN = { loadBalancing: 'round-robin' } as const;

/** By endpoint. */
async function opened({ registry }: Awaited<ReturnType<typeof run>>['selvedge']): Promise<Record<string, number>> {
  const metric = await registry.getSingleMetric('selvedge_upstream_connections_opened_total')?.get();
  return Object.fromEntries(
    (metric?.values ?? []).map(({ labels, value }) => [`${labels.service} ${labels.endpoint}`, value]),
  );
}

t.test('counts every connection that is opened: one where it is reused, one a request where it is not', async (t) => {
  const { port: keeps } = await httpUpstream(t, (_req, res) => res.end('ok'));
  const { port: closes } = await httpUpstream(t, (_req, res) => res.setHeader('connection', 'close').end('ok'));
  const edge = await run(t, edgeTo([keeps, closes], { service: ROUND_ROBIN }));
  for (let n = 0; n < 10; n++) t.equal((await fetch(edge.url)).status, 200);
  t.strictSame(await opened(edge.selvedge), { [`app 127.0.0.1:${keeps}`]: 1, [`app 127.0.0.1:${closes}`]: 5 });
});

t.test('counts none that was not established', async (t) => {
  const edge = await run(t, edgeTo([await closedPort()]));
  t.equal((await fetch(edge.url)).status, 502);
  t.strictSame(await opened(edge.selvedge), {});
});

t.test('does not count those of active health checks', async (t) => {
  let checks = 0;
  const { port } = await httpUpstream(t, (req, res) => {
    if (req.url === '/healthy') checks += 1;
    res.end('ok');
  });
  const healthCheck = { http: { path: '/healthy' }, interval: '10s', timeout: '9s' };
  const edge = await run(t, edgeTo([port], { service: { healthCheck } }));
  await eventually(() => checks > 0, 'it is checked');
  t.strictSame(await opened(edge.selvedge), {});
  t.equal((await fetch(edge.url)).status, 200);
  t.strictSame(await opened(edge.selvedge), { [`app 127.0.0.1:${port}`]: 1 });
});

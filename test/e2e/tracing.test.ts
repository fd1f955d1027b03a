// One request is one trace: edge, hop, application, hop, hop, application; with the real demo services and a real collector.
import { type AddressInfo, createServer as createTcp } from 'node:net';
import t, { type Test } from 'tap';
import { inventory } from '../../demo/inventory.ts';
import { orderService } from '../../demo/orders.ts';
import { edgeTo, run } from './support/gateway.ts';
import { freePort } from './support/ports.ts';
import { httpUpstream, rawUpstream } from './support/sockets.ts';

interface Span {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string>>;
}

async function collector(t: Test): Promise<{ otlp: string; spans: Span[] }> {
  const spans: Span[] = [];
  const plain = (attributes: { key: string; value: Record<string, string> }[]) =>
    Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue]));
  const { port } = await httpUpstream(t, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans)
      for (const span of scopeSpans[0].spans)
        spans.push({
          ...span,
          service: plain(resource.attributes)['service.name'],
          attributes: plain(span.attributes),
        });
    response.end('{}');
  });
  return { otlp: `http://127.0.0.1:${port}`, spans };
}

/** `role kind` from the first to the last, each the child of the one before. */
function line(spans: readonly Span[]): string[] {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  let [current] = spans.filter(({ parentSpanId }) => parentSpanId === undefined || !ids.has(parentSpanId));
  const found: string[] = [];
  while (current !== undefined) {
    found.push(`${current.service} ${current.attributes['selvedge.role']} ${current.kind === 2 ? 'server' : 'client'}`);
    const children: Span[] = spans.filter(({ parentSpanId }) => parentSpanId === current.spanId);
    current = children[0];
  }
  return found;
}

t.test('one request is one trace through edge, hops and applications that pass the headers on', async (t) => {
  const { otlp, spans } = await collector(t);
  const [ordersIn, ordersOut, stockIn] = await Promise.all([freePort(), freePort(), freePort()]);
  const stockApp = inventory();
  const ordersApp = orderService({ version: 'v1', outbound: `http://127.0.0.1:${ordersOut}` });
  const seen: (string | string[] | undefined)[] = [];
  stockApp.addHook('onRequest', async ({ headers }) => {
    seen.push(headers.baggage, headers.tracestate, headers.traceparent, headers.b3);
  });
  await Promise.all([stockApp, ordersApp].map((app) => app.listen({ host: '127.0.0.1', port: 0 })));
  t.teardown(() => Promise.all([stockApp.close(), ordersApp.close()]));
  const portOf = (app: typeof stockApp) => (app.server.address() as AddressInfo).port;
  const { selvedge, url } = await run(t, {
    version: 1,
    admin: false,
    mesh: { mtls: 'off' },
    telemetry: { accessLog: false, tracing: { otlp, sample: '100%', propagate: ['w3c', 'b3'] } },
    gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${portOf(ordersApp)}`, hop: `127.0.0.1:${ordersIn}` }],
        internal: {
          inbound: { host: '127.0.0.1', port: ordersIn },
          outbound: { host: '127.0.0.1', port: ordersOut },
        },
      },
      inventory: {
        endpoints: [{ address: `127.0.0.1:${portOf(stockApp)}`, hop: `127.0.0.1:${stockIn}` }],
        internal: { inbound: { host: '127.0.0.1', port: stockIn } },
      },
    },
    routes: [{ name: 'orders', to: 'orders' }],
  } as never);
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  const headers = { traceparent: `00-${trace}-00f067aa0ba902b7-00`, tracestate: 'a=b', baggage: 'user=1' };
  const response = await fetch(`${url}/orders/1`, { headers });
  t.match(await response.json(), { inStock: 12 });
  await selvedge.close();

  t.same([...new Set(spans.map(({ traceId }) => traceId))], [trace]);
  t.same(line(spans), [
    'gateway/public gateway server',
    'gateway/public gateway client',
    'service/orders inbound server',
    'service/orders inbound client',
    'service/orders outbound server',
    'service/orders outbound client',
    'service/inventory inbound server',
    'service/inventory inbound client',
  ]);
  t.equal(spans.length, 8);
  const last = spans.find(({ service, kind }) => service === 'service/inventory' && kind === 3);
  t.same(seen, ['user=1', 'a=b', `00-${trace}-${last?.spanId}-01`, `${trace}-${last?.spanId}-1`]);
});

t.test('each try has a span of its own, and the service sees that of its try', async (t) => {
  const { otlp, spans } = await collector(t);
  const parents: string[] = [];
  const { port } = await httpUpstream(t, (request, response) => {
    parents.push(String(request.headers.traceparent));
    response.writeHead(parents.length === 1 ? 503 : 200).end();
  });
  const config = edgeTo([port], { route: { retry: { attempts: 1, on: ['5xx'] } } });
  const tracing = { otlp, sample: '100%' };
  const { selvedge, url } = await run(t, { ...config, telemetry: { accessLog: false, tracing } } as never);
  t.equal((await fetch(url)).status, 200);
  await selvedge.close();
  const tries = spans.filter(({ kind }) => kind === 3);
  t.same(
    parents.map((parent) => parent.split('-')[2]),
    tries.map(({ spanId }) => spanId),
  );
  t.match(
    tries.map(({ attributes }) => attributes),
    [
      { 'selvedge.attempt': '1', 'http.response.status_code': '503' },
      { 'selvedge.attempt': '2', 'http.response.status_code': '200', 'http.request.resend_count': '1' },
    ],
  );
});

t.test('a route that removes the trace headers sends none, sampled or not', async (t) => {
  const { otlp, spans } = await collector(t);
  const seen: unknown[] = [];
  const { port } = await httpUpstream(t, (request, response) => {
    seen.push(request.headers.traceparent);
    response.end();
  });
  const config = edgeTo([port], { route: { requestHeaders: { remove: ['traceparent'] } } });
  const tracing = { otlp, sample: '100%' };
  const { selvedge, url } = await run(t, { ...config, telemetry: { accessLog: false, tracing } } as never);
  await fetch(url);
  await selvedge.close();
  t.same(seen, [undefined]);
  t.equal(spans.length, 2);
});

t.test('refusals, resets and upgrades are traced to their end', async (t) => {
  const { otlp, spans } = await collector(t);
  const { port } = await rawUpstream(t, (socket, head) => {
    if (head.startsWith('POST')) socket.destroy();
    else socket.end('HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n');
  });
  const config = edgeTo([port], {
    route: { match: [{ path: '/reset' }, { path: '/upgrade' }], retry: { attempts: 0 } },
  });
  const tracing = { otlp, sample: '100%' };
  const { selvedge, url } = await run(t, { ...config, telemetry: { accessLog: false, tracing } } as never);
  t.equal((await fetch(`${url}/nowhere`)).status, 404);
  t.equal((await fetch(`${url}/reset`, { method: 'POST' })).status, 502);
  const { get } = await import('node:http');
  await new Promise<void>((resolve) => {
    get(`${url}/upgrade`, { headers: { connection: 'upgrade', upgrade: 'echo' } }).on(
      'upgrade',
      (_response, socket) => {
        socket.on('close', () => resolve()).end();
      },
    );
  });
  await selvedge.close();
  const told = spans.map(({ kind, attributes }) => [
    kind === 2 ? 'server' : 'client',
    attributes['http.response.status_code'] ?? '',
    attributes['error.type'] ?? attributes['selvedge.reason'] ?? '',
  ]);
  t.same(told.slice(0, 3), [
    ['server', '404', 'route_not_found'],
    ['client', '', 'upstream_reset'],
    ['server', '502', 'upstream_reset'],
  ]);
  t.same(
    told.slice(3).map(([kind, status]) => `${kind} ${status}`),
    ['client 101', 'server 101'],
  );
});

t.test(
  'a collector that never answers delays nothing but the very end, and that by no more than its bound',
  async (t) => {
    const server = createTcp(() => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => void server.close());
    const { port } = await httpUpstream(t, (_request, response) => response.end('ok'));
    const otlp = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const config = edgeTo([port]);
    const tracing = { otlp, sample: '100%' };
    const { selvedge, url } = await run(t, { ...config, telemetry: { accessLog: false, tracing } } as never);
    for (let index = 0; index < 20; index++) t.equal(await (await fetch(url)).text(), 'ok');
    await selvedge.close();
    t.match(await selvedge.registry.metrics(), /selvedge_trace_spans_total\{result="failed"\} 40/);
  },
);

t.test('a reload that changes the share goes on with the same queue', async (t) => {
  const { otlp, spans } = await collector(t);
  const { port } = await httpUpstream(t, (_request, response) => response.end('ok'));
  const file = (sample: string) =>
    JSON.stringify({ ...edgeTo([port]), telemetry: { accessLog: false, tracing: { otlp, sample } } });
  const dir = t.testdir({ 'selvedge.json': file('100%') });
  const { writeFileSync } = await import('node:fs');
  const { createSelvedge } = await import('../../src/index.ts');
  const selvedge = await createSelvedge({ config: `${dir}/selvedge.json`, logger: false, watch: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const ask = async () => (await fetch(`http://127.0.0.1:${Object.values(selvedge.addresses())[0].port}`)).text();
  await ask();
  writeFileSync(`${dir}/selvedge.json`, file('0%'));
  t.equal((await selvedge.reload()).applied, true);
  await ask();
  t.same(spans, [], 'nothing was flushed by the change');
  await selvedge.close();
  t.equal(spans.length, 2);
});

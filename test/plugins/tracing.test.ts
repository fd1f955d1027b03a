// The plugin in a chain: what it makes of headers, what its spans say, and what it costs a request that is not sampled.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { type ChainOptions, sentValues, testChain } from '../support/chain.ts';

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly traceState?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status?: { readonly code: number };
  readonly attributes: Readonly<Record<string, string | number>>;
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

/** A collector; `spans` after the chain is closed is all of them. */
async function collect(t: Test) {
  const spans: Span[] = [];
  const resources: Record<string, unknown>[] = [];
  const headers: Record<string, unknown>[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    headers.push(request.headers);
    for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
      resources.push(plain(resource.attributes));
      for (const span of scopeSpans[0].spans) spans.push({ ...span, attributes: plain(span.attributes) });
    }
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void server.close());
  return { spans, resources, headers, otlp: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function plain(attributes: { key: string; value: { stringValue?: string; intValue?: string } }[]) {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]),
  ) as Record<string, string | number>;
}

/** The chain, and its spans once it is closed. */
async function traced(t: Test, options: Record<string, unknown> = {}, rest: ChainOptions = {}) {
  const collector = await collect(t);
  const chain = await testChain([['tracing', { otlp: collector.otlp, sample: '100%', ...options }]], rest);
  const close = async (): Promise<readonly Span[]> => {
    await chain.close();
    await new Promise<void>((resolve) => {
      const look = () => {
        if (collector.headers.length > 0) resolve();
        else setTimeout(look, 5);
      };
      look();
    });
    return collector.spans;
  };
  return { ...collector, chain, close };
}

t.test(
  'a sampled request is a server span, and each try a client span inside it that the service sees as its parent',
  async (t) => {
    const { chain, close, resources } = await traced(t);
    await chain.inject({ method: 'GET', url: '/orders/1?token=x', headers: { 'user-agent': 'curl/8' } });
    const [exchange] = chain.exchanges;
    const spans = await close();
    t.equal(spans.length, 2);
    const [client, server] = spans;
    t.same(sentValues(chain.sent[0], 'traceparent'), [`00-${server.traceId}-${client.spanId}-01`]);
    t.equal(exchange.traceId, server.traceId);
    t.match(server, {
      name: 'GET orders',
      kind: 2,
      parentSpanId: undefined,
      status: undefined,
      attributes: {
        'http.request.method': 'GET',
        'url.path': '/orders/1',
        'url.scheme': 'http',
        'server.address': 'shop.example.com',
        'client.address': '192.0.2.1',
        'http.route': 'orders',
        'http.response.status_code': 200,
        'network.protocol.version': '1.1',
        'user_agent.original': 'curl/8',
        'selvedge.role': 'gateway',
        'selvedge.owner': 'public',
        'selvedge.service': 'orders',
        'selvedge.request_id': 'id-1',
        'selvedge.attempts': 1,
      },
    });
    t.match(client, {
      name: 'GET',
      kind: 3,
      traceId: server.traceId,
      parentSpanId: server.spanId,
      status: undefined,
      attributes: {
        'http.request.method': 'GET',
        'url.full': 'http://127.0.0.1:3000/orders/1',
        'server.address': '127.0.0.1',
        'server.port': 3000,
        'selvedge.endpoint': '127.0.0.1:3000',
        'selvedge.outcome': 'ok',
        'selvedge.attempt': 1,
        'http.response.status_code': 200,
      },
    });
    t.notMatch(JSON.stringify(spans), 'token', 'query strings carry secrets');
    const nanos = (span: Span) => [BigInt(span.startTimeUnixNano), BigInt(span.endTimeUnixNano)];
    const [outer, inner] = [nanos(server), nanos(client)];
    t.ok(outer[0] <= inner[0] && inner[0] <= inner[1] && inner[1] <= outer[1], 'one lies inside the other');
    t.ok(Math.abs(Number(outer[0] / 1_000_000n) - Date.now()) < 60_000, 'and both lie in our time');
    t.match(resources[0], {
      'service.name': 'gateway/public',
      'service.namespace': 'selvedge',
      'service.version': '1.2.3',
    });
  },
);

t.test('the trace of the caller goes on, with its state and its baggage', async (t) => {
  const { chain, close, resources } = await traced(t, {}, { role: 'inbound', owner: 'orders' });
  const headers = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'a=b', baggage: 'user=1;p, x=%20' };
  await chain.inject({ url: '/', headers });
  t.same(sentValues(chain.sent[0], 'tracestate'), ['a=b']);
  t.same(sentValues(chain.sent[0], 'baggage'), ['user=1;p, x=%20']);
  const [client, server] = await close();
  t.match(server, { traceId: TRACE, parentSpanId: SPAN, traceState: 'a=b' });
  t.match(client, { traceId: TRACE, parentSpanId: server.spanId, traceState: 'a=b' });
  t.equal(resources[0]['service.name'], 'service/orders');
});

t.test('at the edge a stranger’s trace goes on, but he does not decide that it is recorded', async (t) => {
  const headers = { traceparent: `00-${TRACE}-${SPAN}-01` };
  const registry = new Registry();
  const { chain } = await traced(t, { sample: 0 }, { registry });
  await chain.inject({ url: '/', headers });
  t.match(sentValues(chain.sent[0], 'traceparent'), [new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`)]);
  t.match(await registry.metrics(), /selvedge_trace_spans_total\{result="exported"\} 0/);
  await chain.close();
  const { chain: trusting, close } = await traced(t, { sample: 0, trustParent: true });
  await trusting.inject({ url: '/', headers });
  t.equal((await close()).length, 2);
});

t.test('a hop records what the edge decided to record, and nothing else', async (t) => {
  const { chain, close, spans } = await traced(t, {}, { role: 'inbound', owner: 'orders' });
  await chain.inject({ url: '/', headers: { traceparent: `00-${TRACE}-${SPAN}-00` } });
  t.same(sentValues(chain.sent[0], 'traceparent'), [`00-${TRACE}-${SPAN}-00`], 'passed on as it came');
  t.same(spans, []);
  await chain.inject({ url: '/', headers: { traceparent: `00-${TRACE}-${SPAN}-01` } });
  t.equal((await close()).length, 2);
});

t.test('B3 comes in, and goes out beside W3C', async (t) => {
  const { chain, close } = await traced(t, { propagate: ['w3c', 'b3'] }, { role: 'inbound', owner: 'orders' });
  await chain.inject({ url: '/', headers: { 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-sampled': '1' } });
  const [client, server] = await close();
  t.match(server, { traceId: TRACE, parentSpanId: SPAN });
  t.same(sentValues(chain.sent[0], 'b3'), [`${TRACE}-${client.spanId}-1`]);
  t.same(sentValues(chain.sent[0], 'traceparent'), [`00-${TRACE}-${client.spanId}-01`]);
  t.same(sentValues(chain.sent[0], 'x-b3-traceid'), [], 'the old form does not stay to say something else');
});

t.test('failures say what failed', async (t) => {
  const seen = async (answer: ChainOptions['answer'], exchange: ChainOptions['exchange'] = {}) => {
    const { chain, close } = await traced(t, {}, { answer, exchange });
    await chain.inject({ url: '/' }).catch(() => {});
    const [client, server] = await close();
    return { client, server };
  };
  const broken = await seen(() => ({ status: 502 }), { reason: 'upstream_reset' });
  t.match(broken.server, { status: { code: 2 }, attributes: { 'error.type': 'upstream_reset' } });
  t.match(broken.client, { status: { code: 2 }, attributes: { 'error.type': '502' } });
  const missing = await seen(() => ({ status: 404 }));
  t.equal(missing.server.status, undefined, 'a refusal is no failure of the server');
  t.match(missing.client, { status: { code: 2 }, attributes: { 'error.type': '404' } });
  const left = await seen(() => 'abort');
  t.equal(left.server.status, undefined, 'nor is a client that left');
  t.match(left.server.attributes, { 'selvedge.reason': 'client_aborted' });
  t.notOk('http.response.status_code' in left.server.attributes, 'no status was sent');
  t.match(left.client.attributes, { 'selvedge.outcome': 'abandoned' });
});

t.test('what a client chose is cut, and no method of its own becomes a name', async (t) => {
  const path = `/${'p'.repeat(5_000)}`;
  const { chain, close } = await traced(t, {}, { exchange: { path, host: 'h'.repeat(1_000), route: null } });
  await chain.inject({ method: 'PATCH', url: '/', headers: { 'user-agent': `${'u'.repeat(300)}"\\\u00e9` } });
  const [, server] = await close();
  t.equal(server.name, 'PATCH');
  t.equal(String(server.attributes['url.path']).length, 1_025);
  t.equal(String(server.attributes['server.address']).length, 257);
  t.equal(String(server.attributes['user_agent.original']).length, 257);
});

t.test('the collector gets its headers; a collector that is down harms nobody', async (t) => {
  const { chain, close, headers } = await traced(t, { headers: { authorization: 'Bearer x' } });
  await chain.inject({ url: '/' });
  await close();
  t.match(headers[0], { authorization: 'Bearer x' });
  const registry = new Registry();
  const down = await testChain([['tracing', { otlp: 'http://127.0.0.1:1', sample: 1 }]], { registry });
  t.equal((await down.inject({ url: '/' })).statusCode, 200);
  await down.close();
});

t.test('options that make no sense are refused, without telling what is secret', async (t) => {
  const refused = (options: Record<string, unknown>) => t.rejects(testChain([['tracing', options]]));
  await refused({});
  await refused({ otlp: 'localhost:4318' });
  await refused({ otlp: 'http://a', sample: '101%' });
  await refused({ otlp: 'http://a', propagate: [] });
  await refused({ otlp: 'http://a', propagate: ['jaeger'] });
  const error = await testChain([['tracing', { otlp: 'http://a', headers: { 'x-a': 'secret\n' } }]]).catch(String);
  t.match(error, /headers\.x-a/);
  t.notMatch(error, 'secret');
});

// https-redirect: who came by https, where the others are sent, and what browsers are told.
import t from 'tap';
import { type ChainOptions, testChain } from '../support/chain.ts';

type Ends = { teardown(end: () => unknown): unknown };
type Asked = { url?: string; method?: 'GET' | 'HEAD' | 'POST' | 'DELETE'; headers?: Record<string, string> };

async function ask(
  t: Ends,
  options: Record<string, unknown>,
  exchange: ChainOptions['exchange'],
  { url = '/a?b=c', method = 'GET', headers = {} }: Asked = {},
) {
  const chain = await testChain([['https-redirect', options]], { exchange });
  t.teardown(() => chain.close());
  const { statusCode, headers: got } = await chain.inject({ url, method, headers });
  const metrics = await chain.registry.metrics();
  return {
    status: statusCode,
    location: got.location,
    hsts: got['strict-transport-security'],
    because: chain.exchanges[0].because,
    sent: chain.sent.length,
    counted: Number(/selvedge_https_redirects_total\{owner="public"\} (\d+)/.exec(metrics)?.[1] ?? 0),
  };
}

t.test('plain requests are sent to https, and the method stays', async (t) => {
  for (const [method, status] of [
    ['GET', 301],
    ['HEAD', 301],
    ['POST', 308],
    ['DELETE', 308],
  ] as const)
    t.strictSame(await ask(t, {}, {}, { method }), {
      status,
      location: 'https://shop.example.com/a?b=c',
      hsts: undefined,
      because: 'sent_to_https',
      sent: 0,
      counted: 1,
    });
  t.equal((await ask(t, { port: 8443 }, {})).location, 'https://shop.example.com:8443/a?b=c');
});

t.test('https by TLS, or by the word of a trusted proxy alone', async (t) => {
  const proto = (value: string) => ({ headers: { 'x-forwarded-proto': value } });
  const served = { status: 200, hsts: 'max-age=31536000', sent: 1, counted: 0 };
  t.match(await ask(t, {}, { scheme: 'https' }), served);
  t.match(await ask(t, {}, { trusted: true }, proto('https')), served);
  t.match(await ask(t, {}, { trusted: true }, proto('HTTPS, http')), served);
  t.match(await ask(t, {}, { trusted: false }, proto('https')), { status: 301, sent: 0 }, 'a stranger says so');
  t.match(await ask(t, {}, { trusted: true }, proto('http')), { status: 301, sent: 0 });
  t.match(await ask(t, {}, { trusted: true }, proto('httpsx')), { status: 301, sent: 0 });
  t.match(await ask(t, {}, { trusted: true }), { status: 301, sent: 0 }, 'the proxy says nothing');
});

t.test('exceptions by whole segments, no HSTS there; nothing is sent on that no route takes', async (t) => {
  const options = { except: ['/healthz', '/.well-known/acme-challenge/'] };
  for (const [url, status] of [
    ['/healthz', 200],
    ['/healthz/live?x=1', 200],
    ['/healthz2', 301],
    ['/.well-known/acme-challenge/abc', 200],
    ['/', 301],
  ] as const)
    t.match(await ask(t, options, {}, { url }), { status, hsts: undefined }, url);
  t.match(await ask(t, {}, { route: null }), { sent: 1, status: 200 }, 'the chain refuses it');
  t.match(await ask(t, {}, { host: '' }), { status: 400, location: undefined });
});

t.test('HSTS as it is asked for; of the service it stays', async (t) => {
  const https = { scheme: 'https' } as const;
  t.equal((await ask(t, { hsts: false }, https)).hsts, undefined);
  const hsts = { maxAge: '730d', includeSubDomains: true, preload: true };
  t.equal((await ask(t, { hsts }, https)).hsts, 'max-age=63072000; includeSubDomains; preload');
  const chain = await testChain([['https-redirect']], {
    exchange: https,
    answer: () => ({ headers: { 'strict-transport-security': 'max-age=1' } }),
  });
  t.teardown(() => chain.close());
  t.equal((await chain.inject({ url: '/' })).headers['strict-transport-security'], 'max-age=1');
});

t.test('what a config may not say', async (t) => {
  for (const [options, message] of [
    [{ except: ['healthz'] }, 'https-redirect.except[0]: "healthz" is not a path such as /healthz'],
    [{ except: ['/'] }, 'https-redirect.except[0]: would serve everything over plain HTTP'],
    [{ hsts: { maxAge: '30d', includeSubDomains: true, preload: true } }, /hsts\.preload: browsers preload only/],
    [{ hsts: { maxAge: '365d', preload: true } }, /hsts\.preload: browsers preload only/],
    [{ hsts: { maxAge: '1500ms' } }, /hsts\.maxAge: must be whole seconds/],
    [{ port: 0 }, /https-redirect\.port: must be/],
  ] as const)
    await t.rejects(testChain([['https-redirect', options]]), {
      message: typeof message === 'string' ? new RegExp(message.replace(/[[\].]/g, '\\$&')) : message,
    });
});

import t from 'tap';
import { parseListen, parseUpstream, proxyConfig } from '../../src/cli/proxy.ts';
import { createSelvedge } from '../../src/index.ts';
import { httpUpstream } from '../e2e/support/sockets.ts';
import { SelvedgeProcess } from './support/process.ts';

t.test('reads every way to write where to listen', async (t) => {
  t.same(parseListen(':8080'), { host: '0.0.0.0', port: 8080 });
  t.same(parseListen('8080'), { host: '0.0.0.0', port: 8080 });
  t.same(parseListen('127.0.0.1:0'), { host: '127.0.0.1', port: 0 });
  t.same(parseListen('[::1]:8080'), { host: '::1', port: 8080 });
  t.same(parseListen('localhost:8080'), { host: 'localhost', port: 8080 });
  for (const wrong of ['', ':', 'localhost', ':70000', '::1:8080', ':80a', 'http://localhost:80', '[]:80']) {
    t.throws(() => parseListen(wrong), { name: 'UsageError' }, wrong);
  }
});

t.test('takes http and https URLs of a host, a port and a path', async (t) => {
  for (const right of ['http://localhost:3000', 'https://api.example.com', 'http://[::1]:3000/api/']) {
    t.equal(parseUpstream(right).href, new URL(right).href);
  }
  for (const wrong of ['localhost:3000', 'ftp://a', 'http://', 'http://a/?q', 'http://a/#x', 'http://user:pw@a', '']) {
    t.throws(() => parseUpstream(wrong), { name: 'UsageError' }, wrong);
  }
});

t.test('is a config like any other', async (t) => {
  const listen = { host: '127.0.0.1', port: 0 };
  t.match(proxyConfig(listen, new URL('https://api.example.com'), true, 9901), {
    admin: { host: '127.0.0.1', port: 9901 },
    services: { upstream: { endpoints: ['api.example.com:443'], tls: true } },
    routes: [{ rewrite: { host: 'api.example.com' } }],
  });
  const plain = proxyConfig(listen, new URL('http://[::1]:3000'), false, null);
  t.match(plain, { admin: false, services: { upstream: { endpoints: ['[::1]:3000'] } } });
  t.notOk('rewrite' in plain.routes![0]);
  for (const url of ['http://localhost', 'https://[::1]:8443/a/b', 'http://10.0.0.1:81/x']) {
    const selvedge = await createSelvedge({ config: proxyConfig(listen, new URL(url), true, null), logger: false });
    await selvedge.start();
    await selvedge.close();
  }
});

t.test('proxies in one line: path, query, host and body arrive, and SIGINT ends it', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => {
    let body = '';
    req.on('data', (chunk) => {
      body += chunk;
    });
    req.on('end', () => res.end(`${req.method} ${req.url} ${req.headers.host} ${body}`));
  });
  const proxy = new SelvedgeProcess(t, [
    'proxy',
    '127.0.0.1:0',
    `http://127.0.0.1:${port}/api/`,
    '--rewrite-host',
    '--admin',
    '0',
  ]);
  const own = await proxy.port('gateway/proxy/http');
  const response = await fetch(`http://127.0.0.1:${own}/orders?x=1`, { method: 'POST', body: 'hello' });
  t.equal(await response.text(), `POST /api/orders?x=1 127.0.0.1:${port} hello`);
  t.equal((await fetch(`http://127.0.0.1:${await proxy.port('admin')}/readyz`)).status, 200);
  proxy.signal('SIGINT');
  t.equal(await proxy.ended, 0);
});

t.test('wrong usage exits 2', async (t) => {
  const outcome = async (...args: string[]) => {
    const proxy = new SelvedgeProcess(t, ['proxy', ...args]);
    return { code: await proxy.ended, stderr: proxy.stderr };
  };
  const [bare, url, port] = await Promise.all([
    outcome(':0'),
    outcome(':0', 'localhost:3000'),
    outcome(':0', 'http://a', '--admin', 'x'),
  ]);
  t.match(bare, { code: 2, stderr: /needs an address and a URL/ });
  t.match(url, { code: 2, stderr: /no URL of a service/ });
  t.match(port, { code: 2, stderr: /"x" is no port/ });
});

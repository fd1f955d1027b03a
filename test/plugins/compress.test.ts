// compress: who gets which coding, which answers are left as they are, and what their heads say then.
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { DESCRIPTION } from '../../src/plugin.ts';
import { AVAILABLE } from '../../src/plugins/compress/encoders.ts';
import { type Encoding, negotiate } from '../../src/plugins/compress/negotiation.ts';
import compress from '../../src/plugins/compress.ts';
import { type Answer, testChain } from '../support/chain.ts';

const ALL: readonly Encoding[] = ['br', 'zstd', 'gzip'];
const TEXT = 'all work and no play makes a dull page. '.repeat(100);
const PAGE = { headers: { 'content-type': 'text/html; charset=utf-8' } as Record<string, string>, body: TEXT };

async function chainOf(t: Test, options: Record<string, unknown>, answer: Answer) {
  const chain = await testChain([['compress', options]], { answer: () => answer });
  t.teardown(() => chain.close());
  return chain;
}

t.test('Accept-Encoding', async (t) => {
  t.test('as in RFC 9110, table by table', async (t) => {
    const cases: [string | undefined, Encoding | null][] = [
      [undefined, null],
      ['', null],
      ['gzip', 'gzip'],
      ['x-gzip', 'gzip'],
      ['GZIP', 'gzip'],
      ['gzip, br', 'br'],
      ['gzip, deflate, br, zstd', 'br'],
      ['gzip;q=1, br;q=0.5', 'gzip'],
      ['gzip ; q=0.8 , zstd;q=0.9', 'zstd'],
      ['*', 'br'],
      ['*;q=0.5, gzip', 'gzip'],
      ['br;q=0, *', 'zstd'],
      ['*;q=0', null],
      ['gzip;q=0', null],
      ['identity', null],
      ['identity;q=1, gzip;q=0.5', null],
      ['identity;q=0.5, gzip;q=0.5', 'gzip'],
      ['identity;q=0', null],
      ['identity;q=0, gzip;q=0.1', 'gzip'],
      ['deflate', null],
      ['gzip;q=2', null],
      ['gzip;q=nonsense', null],
      ['gzip;level=9', null],
      [',, gzip ,', 'gzip'],
    ];
    for (const [header, expected] of cases) t.equal(negotiate(header, ALL), expected, String(header));
  });

  t.test('never gives what is forbidden or weighs less than another, whatever is written', async (t) => {
    const weight = fc.integer({ min: 0, max: 1000 }).map((n) => n / 1000);
    const name = fc.constantFrom('br', 'zstd', 'gzip', 'identity', '*', 'deflate');
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, weight), { selector: ([one]) => one }), (asked) => {
        const chosen = negotiate(asked.map(([one, q]) => `${one};q=${q}`).join(', '), ALL);
        const weights = new Map<string, number>(asked);
        const of = (one: string) => weights.get(one) ?? weights.get('*') ?? 0;
        const best = Math.max(...ALL.map(of));
        const identity = weights.get('identity') ?? 0;
        if (chosen === null) return best === 0 || identity > best;
        return of(chosen) > 0 && of(chosen) === best && identity <= best;
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => [null, ...ALL].includes(negotiate(text, ALL))));
    t.pass();
  });
});

t.test('compresses by each coding and says so', async (t) => {
  const chain = await chainOf(
    t,
    {},
    { ...PAGE, headers: { ...PAGE.headers, etag: '"a"', 'accept-ranges': 'bytes', vary: 'Origin' } },
  );
  const decoders = { br: brotliDecompressSync, zstd: zstdDecompressSync, gzip: gunzipSync };
  for (const encoding of AVAILABLE) {
    const { headers, rawPayload } = await chain.inject({ url: '/', headers: { 'accept-encoding': encoding } });
    t.equal(headers['content-encoding'], encoding);
    t.equal(headers.vary, 'Origin, Accept-Encoding');
    t.equal(headers.etag, 'W/"a"');
    t.equal(headers['accept-ranges'], undefined);
    t.equal(headers['content-length'], String(rawPayload.length));
    t.equal(decoders[encoding](rawPayload).toString(), TEXT);
    t.match(await chain.registry.metrics(), `selvedge_compressed_total{owner="public",result="${encoding}"} 1`);
  }
  t.test('and leaves it to clients that take none, telling caches', async (t) => {
    const { headers, payload } = await chain.inject({ url: '/' });
    t.equal(headers['content-encoding'], undefined);
    t.equal(headers.vary, 'Origin, Accept-Encoding');
    t.equal(headers.etag, '"a"');
    t.equal(payload, TEXT);
  });
});

t.test('leaves as they are', async (t) => {
  const html = PAGE.headers;
  const cases: Record<string, [Answer, boolean, Record<string, unknown>?]> = {
    'what is compressed already': [{ headers: { ...html, 'content-encoding': 'gzip' }, body: TEXT }, false],
    'what may not be transformed': [
      { headers: { ...html, 'cache-control': 'public, No-Transform' }, body: TEXT },
      false,
    ],
    'what has a digest': [{ headers: { ...html, 'content-digest': 'sha-256=:x:' }, body: TEXT }, false],
    'what has an MD5': [{ headers: { ...html, 'content-md5': 'x' }, body: TEXT }, false],
    'parts of a whole': [{ status: 206, headers: { ...html, 'content-range': 'bytes 0-1/2' }, body: TEXT }, true],
    'small answers': [{ headers: html, body: 'x'.repeat(1_023) }, true],
    pictures: [{ headers: { 'content-type': 'image/png' }, body: TEXT }, false],
    'events, unless named': [{ headers: { 'content-type': 'text/event-stream' }, body: TEXT }, false],
    'gRPC, even when named': [
      { headers: { 'content-type': 'application/grpc+json' }, body: TEXT },
      false,
      { types: ['application/*', '*+json'] },
    ],
    'what says nothing of its type': [{ body: TEXT }, false],
    'paths that are excepted': [PAGE, false, { except: ['/'] }],
  };
  for (const [what, [answer, varies, options = {}]] of Object.entries(cases)) {
    t.test(what, async (t) => {
      const chain = await chainOf(t, options, answer);
      const { headers, payload } = await chain.inject({ url: '/', headers: { 'accept-encoding': 'br, gzip' } });
      t.equal(payload, (answer as { body: string }).body);
      t.not(headers['content-encoding'], 'br');
      t.equal(headers.vary, varies ? 'Accept-Encoding' : undefined);
    });
  }
  t.test('what was asked for in parts', async (t) => {
    const chain = await chainOf(t, {}, PAGE);
    const { headers } = await chain.inject({ url: '/', headers: { 'accept-encoding': 'br', range: 'bytes=0-9' } });
    t.equal(headers['content-encoding'], undefined);
    t.equal(headers.vary, 'Accept-Encoding');
  });
});

t.test('an excepted path has everything below it, and nothing that only begins like it', async (t) => {
  const chain = await chainOf(t, { except: ['/account'] }, PAGE);
  const encodingAt = async (url: string) =>
    (await chain.inject({ url, headers: { 'accept-encoding': 'gzip' } })).headers['content-encoding'];
  t.equal(await encodingAt('/account'), undefined);
  t.equal(await encodingAt('/account/x'), undefined);
  t.equal(await encodingAt('/accounts'), 'gzip');
});

t.test('a 304 names the validator that the client has, and varies', async (t) => {
  const chain = await chainOf(t, {}, { status: 304, headers: { 'content-type': 'text/html', etag: '"a"' }, body: '' });
  for (const [asked, told] of [
    ['W/"a"', 'W/"a"'],
    ['"a"', '"a"'],
  ]) {
    const { headers } = await chain.inject({ url: '/', headers: { 'accept-encoding': 'br', 'if-none-match': asked } });
    t.equal(headers.etag, told);
    t.equal(headers.vary, 'Accept-Encoding');
  }
});

t.test('with upstream: identity the service is asked for plain answers', async (t) => {
  const chain = await chainOf(t, { upstream: 'identity' }, PAGE);
  const { headers } = await chain.inject({ url: '/', headers: { 'accept-encoding': 'br' } });
  t.equal(headers['content-encoding'], 'br');
  t.equal(chain.sent[0].headers[chain.sent[0].headers.indexOf('accept-encoding') + 1], 'identity');
});

t.test('check refuses what cannot be', async (t) => {
  const problems = (options: Record<string, unknown>) =>
    chainOf(t, options, PAGE).then(
      () => '',
      (error: Error) => error.message,
    );
  t.match(await problems({ minBytes: '1GiB' }), /minBytes.*at most 64KiB/);
  t.match(await problems({ encodings: ['deflate'] }), /encodings/);
  t.match(await problems({ types: ['html'] }), /must be a content type/);
  t.match(await problems({ levels: { br: 12 } }), /levels/);
  t.match(await problems({ except: ['account'] }), /begins with/);
  t.equal(compress[DESCRIPTION].name, 'compress');
});

import type { IncomingMessage } from 'node:http';
import t from 'tap';
import { checkRequest } from '../../src/http/request-check.ts';
import { HOP_LIMITS } from '../../src/internal/internal.ts';

const LIMITS = { ...HOP_LIMITS, headerCount: 4, urlBytes: 10 };

function check(rawHeaders: readonly string[], { url = '/', version = '1.1' } = {}) {
  const [httpVersionMajor, httpVersionMinor] = version.split('.').map(Number);
  return checkRequest({ rawHeaders, url, httpVersionMajor, httpVersionMinor } as unknown as IncomingMessage, LIMITS);
}

t.test('lets a well-formed head through', async (t) => {
  t.equal(check(['Host', 'a']), null);
  t.equal(check(['host', 'a', 'CONTENT-LENGTH', '0']), null);
  t.equal(check(['HOST', 'a', 'Transfer-Encoding', 'Chunked']), null);
  t.equal(check(['Host', 'a', 'Content-Length', '9007199254740991']), null);
  t.equal(check(['X-Four', '1', 'hose', '2', 'content-lengtj', 'x', 'Host', 'a']), null);
  t.equal(check([], { version: '1.0' }), null);
  t.equal(check(['Host', ''], { version: '1.0' }), null);
});

t.test('does not rely on the parser for what a proxy may never pass', async (t) => {
  const cases: [string, readonly string[]][] = [
    ['SLV_BAD_HOST', []],
    ['SLV_BAD_HOST', ['Host', '']],
    ['SLV_BAD_HOST', ['Host', 'a', 'HOST', 'a']],
    ['SLV_BAD_REQUEST', ['Host', 'a', 'Content-Length', '1', 'content-length', '1']],
    ['SLV_BAD_REQUEST', ['Host', 'a', 'Content-Length', '1', 'Transfer-Encoding', 'chunked']],
    ['SLV_BAD_REQUEST', ['Host', 'a', 'Transfer-Encoding', 'chunked', 'transfer-encoding', 'chunked']],
    ['SLV_BODY_TOO_LARGE', ['Host', 'a', 'Content-Length', '9007199254740992']],
    ['SLV_HEADERS_TOO_LARGE', ['Host', 'a', 'A', '', 'B', '', 'C', '', 'D', '']],
  ];
  for (const [code, rawHeaders] of cases) t.equal(check(rawHeaders), code, JSON.stringify(rawHeaders));
  for (const length of ['', '+1', '-1', '0x1', '1,1', '1 1', '1.0', '1e3', ' 1', '99999999999999999999', 'NaN']) {
    t.equal(check(['Host', 'a', 'Content-Length', length]), 'SLV_BAD_REQUEST', `Content-Length: ${length}`);
  }
  for (const coding of [
    '',
    'gzip',
    'gzip, chunked',
    'chunked, chunked',
    'chunked,',
    'xchunked',
    'chunked;q=1',
    '\tchunked',
    'identity',
  ]) {
    t.equal(check(['Host', 'a', 'Transfer-Encoding', coding]), 'SLV_BAD_REQUEST', `Transfer-Encoding: ${coding}`);
  }
  t.equal(check(['Host', 'a', 'Transfer-Encoding', 'chunked'], { version: '1.0' }), 'SLV_BAD_REQUEST');
  for (const version of ['0.9', '1.2', '2.0']) t.equal(check(['Host', 'a'], { version }), 'SLV_BAD_REQUEST', version);
  t.equal(check(['Host', 'a'], { url: '/123456789' }), null);
  t.equal(check(['Host', 'a'], { url: '/1234567890' }), 'SLV_URL_TOO_LONG');
});

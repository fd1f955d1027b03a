// What issuers hand out as their keys, and what they do instead.
import { generateKeyPairSync } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { fetchKeys, keyUrlProblem } from '../../../src/plugins/jwt/fetch-keys.ts';
import { publishedKeys } from '../../../src/plugins/jwt/keys.ts';
import { ISSUER, jwkSet, jwksServer, signer } from './support.ts';

const SET = jwkSet(signer('ES256', 'a'));
const open = new AbortController().signal;

t.test('the keys of a set', async (t) => {
  const { url } = await jwksServer(t, SET);
  t.ok((await fetchKeys({ issuer: ISSUER, jwks: url, allowHttp: false }, open)).knows('a'));
});

t.test('answers that are no keys', async (t) => {
  const server = await jwksServer(t, SET);
  const fails = async (answer: typeof server.answer, message: RegExp, name: string, timeoutMs = 30_000) => {
    server.answer = answer;
    await t.rejects(fetchKeys({ issuer: ISSUER, jwks: server.url, allowHttp: false }, open, timeoutMs), message, name);
  };
  await fails((_req, res) => void res.writeHead(500).end(SET), /answered 500/, 'an error');
  await fails(
    (req, res) => void (req.url === '/other' ? res.end(SET) : res.writeHead(302, { location: '/other' }).end()),
    /./,
    'a redirect',
  );
  await fails((_req, res) => void res.end('<html>'), /not JSON/, 'garbage');
  await fails((_req, res) => void res.end('[]'), /no JSON object/, 'a list');
  await fails((_req, res) => void res.end('{"keys":{}}'), /no list/, 'no list');
  await fails((_req, res) => void res.end('{"keys":[]}'), /no key/, 'no key');
  await fails((_req, res) => void res.end(SET.padEnd(600 * 1_024)), /larger than/, 'a huge answer');
  const bomb = gzipSync(SET.padEnd(50 * 1_024 * 1_024));
  await fails(
    (_req, res) => void res.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb),
    /larger than/,
    'a bomb',
  );
  await fails((req) => void req.socket.destroy(), /./, 'a connection that breaks');
  await fails(() => {}, /no answer within 300 ms/, 'silence', 300);
  await fails((_req, res) => void res.write('{"keys":['), /no answer within 300 ms/, 'silence after a beginning', 300);
  await fails(
    (_req, res) => void res.end(JSON.stringify({ keys: Array.from({ length: 101 }, () => ({})) })),
    /more than 100 keys/,
    'too many keys',
  );
  t.notOk(server.asked.some((path) => path !== '/jwks.json'));
});

t.test('a fetch ends when nobody needs it any more', async (t) => {
  const { url } = await jwksServer(t, () => {});
  const closing = new AbortController();
  const fetched = fetchKeys({ issuer: ISSUER, jwks: url, allowHttp: false }, closing.signal);
  closing.abort();
  await t.rejects(fetched);
});

t.test('keys in a set that are of no use are left out', async (t) => {
  const good = signer('ES256', 'good').jwk;
  const rsa = signer('RS256', 'rsa').jwk;
  const weak = generateKeyPairSync('rsa', { modulusLength: 1_024 }).publicKey.export({ format: 'jwk' });
  const foreign = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({ format: 'jwk' });
  const set = publishedKeys(
    JSON.stringify({
      keys: [
        good,
        { ...rsa, kid: 'enc', use: 'enc' },
        { ...rsa, kid: 'ops', key_ops: ['encrypt'] },
        { ...rsa, kid: 'alg', alg: 'RSA-OAEP' },
        { ...rsa, kid: 'hs', alg: 'HS256' },
        { ...rsa, kid: 5 },
        { ...weak, kid: 'weak' },
        { ...foreign, kid: 'secp256k1' },
        { kty: 'oct', kid: 'oct', k: 'AAAA' },
        { kty: 'RSA', kid: 'half', n: rsa.n },
        null,
        'x',
      ],
    }),
  );
  t.strictSame(
    set.keys.map(({ kid }) => kid),
    ['good'],
  );
});

t.test('discovery', async (t) => {
  const server = await jwksServer(t, SET);
  const location = { issuer: server.origin, jwks: null, allowHttp: false };
  const discover = (document: unknown) => {
    server.answer = (req, res) =>
      void res.end(req.url === '/jwks.json' ? SET : typeof document === 'string' ? document : JSON.stringify(document));
    return fetchKeys(location, open);
  };
  t.ok((await discover({ issuer: server.origin, jwks_uri: server.url })).knows('a'));
  t.strictSame(server.asked, ['/.well-known/openid-configuration', '/jwks.json']);
  await t.rejects(discover({ issuer: `${server.origin}/`, jwks_uri: server.url }), /another issuer/);
  await t.rejects(discover({ issuer: server.origin }), /no "jwks_uri"/);
  await t.rejects(discover({ issuer: server.origin, jwks_uri: 'http://id.example.com/' }), /http/);
  await t.rejects(discover({ issuer: server.origin, jwks_uri: 'file:///etc/passwd' }), /https URL/);
  await t.rejects(discover('null'), /another issuer/);
  await t.rejects(discover('<html>'), /not JSON/);
});

t.test('keys come over https, or from this machine', async (t) => {
  for (const url of ['https://id.example.com/x', 'http://127.0.0.1:1/', 'http://localhost/', 'http://[::1]:80/'])
    t.equal(keyUrlProblem(url, false), null, url);
  for (const url of [
    'http://id.example.com/',
    'http://127.0.0.1.example.com/',
    'ftp://x/',
    'id.example.com',
    'https://u:p@x/',
  ])
    t.ok(keyUrlProblem(url, false), url);
  t.equal(keyUrlProblem('http://id.example.com/', true), null);
});

// The CA service over real HTTPS on loopback: who gets a certificate, who does not, and what is written down about it.
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import t from 'tap';
import { issueSvid, makeKey } from '../../src/identity/authority.ts';
import { rollRoot } from '../../src/identity/authority-directory.ts';
import { isRevoked, revoke } from '../../src/identity/ca/revoked.ts';
import { pem, pemBlocks } from '../../src/identity/pem.ts';
import { makeRequest } from '../../src/identity/signing-request.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { dial } from '../support/raw-client.ts';
import { chainOf, makeDomain, noOpenssl, openssl } from './support/authorities.ts';
import { CART, DOMAIN, makeCa, ORDERS, openTestCa, temporaryDirectory } from './support/ca-service.ts';
import { FakeTime } from './support/fake-time.ts';
import { until } from './support/log.ts';

t.test('a join token gets one certificate, for the id that it is bound to', async (t) => {
  const ca = await openTestCa(t);
  const key = await makeKey();
  const token = await ca.token(ORDERS);
  const answer = await ca.send('POST', '/v1/svid', { token, body: { csr: makeRequest(key) } });
  t.equal(answer.status, 200);
  t.equal(answer.body.id, ORDERS);
  const chain = chainOf(answer.body.svid);
  t.ok(chain[0].checkPrivateKey(key), 'for the key of the request');
  t.match(verifyPeer(chain, new Map([[DOMAIN, answer.body.bundle]]), Date.now()), { ok: true, id: { id: ORDERS } });
  t.equal(answer.body.bundle, ca.roots);
  t.ok(Math.abs(Date.parse(answer.body.expiresAt) - Date.now() - 86_400_000) < 60_000, 'it lives a day');
  t.notMatch(answer.text, /PRIVATE KEY/);
  t.equal(answer.headers['cache-control'], 'no-store');
});

t.test('openssl finds the certificates good, and the one of the service itself', { skip: noOpenssl }, async (t) => {
  const ca = await openTestCa(t, { names: ['ca.internal', '127.0.0.1', '::1', 'fd00::1:2'] });
  const { body } = await ca.ask({ token: await ca.token(ORDERS) });
  const path = join(ca.dir, 'svid.pem');
  writeFileSync(path, body.svid);
  t.match(openssl('verify', '-x509_strict', '-CAfile', ca.trust, '-untrusted', path, path), /OK/);

  const socket = connectTls({ port: ca.port, host: '127.0.0.1', ca: ca.roots });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  const own = socket.getPeerX509Certificate() as X509Certificate;
  socket.destroy();
  const shown = join(ca.dir, 'shown.pem');
  writeFileSync(shown, own.toString() + own.issuerCertificate?.toString());
  const check = ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', ca.trust, '-untrusted', shown];
  t.match(openssl(...check, '-verify_hostname', 'ca.internal', shown), /OK/);
  for (const address of ['::1', 'fd00::1:2', '127.0.0.1'])
    t.match(openssl(...check, '-verify_ip', address, shown), /OK/, address);
  t.match(verifyPeer([own], new Map([[DOMAIN, ca.roots]]), Date.now()), { ok: false, reason: 'no URI SAN' });
});

t.test('a token is refused the second time, also after a restart', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  t.equal((await ca.ask({ token })).status, 200);
  t.match(await ca.ask({ token }), { status: 401, body: { code: 'SLV_UNAUTHORIZED', reason: 'token_used' } });
  await ca.stop();
  await ca.start();
  t.match(await ca.ask({ token }), { status: 401, body: { reason: 'token_used' } });
  const later = await ca.token(CART);
  await ca.stop();
  await ca.start();
  t.match(await ca.ask({ token: later }), { status: 200, body: { id: CART } }, 'one that was not used is still good');
});

t.test('of many who use one token at once exactly one gets a certificate', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const answers = await Promise.all(Array.from({ length: 20 }, () => ca.ask({ token })));
  t.equal(answers.filter(({ status }) => status === 200).length, 1);
  t.equal(answers.filter(({ body }) => body.reason === 'token_used').length, 19);
});

t.test('expired, unknown, altered and senseless tokens are refused', async (t) => {
  const ca = await openTestCa(t);
  const old = await ca.token(ORDERS, { now: Date.now() - 7_200_000, lifeMs: 3_600_000 });
  t.match(await ca.ask({ token: old }), { status: 401, body: { reason: 'token_expired' } });
  const token = await ca.token(ORDERS);
  const altered = token.slice(0, -2) + (token.endsWith('AA') ? 'BB' : 'AA');
  const unknown = token.replace(/~[0-9a-f]{16}~/, '~0123456789abcdef~');
  for (const wrong of [altered, unknown, 'x', '../../root.pem', `service/orders~..%2f~${'a'.repeat(43)}`]) {
    const answer = await ca.ask({ token: wrong });
    t.match(answer, { status: 401, body: { reason: 'token_invalid' } }, wrong.slice(0, 20));
    t.match(answer.headers, { 'content-type': 'application/problem+json', 'www-authenticate': 'Bearer' });
  }
  t.equal((await ca.ask({ token })).status, 200, 'the right one is not worn by wrong ones');
});

t.test('a token for one id is no token for another, whatever its text says', async (t) => {
  const ca = await openTestCa(t);
  const token = (await ca.token(ORDERS)).replace('service/orders', 'service/admin');
  t.match(await ca.ask({ token }), { status: 200, body: { id: ORDERS } });
});

t.test('what a request says about who it is from is ignored', { skip: noOpenssl }, async (t) => {
  const ca = await openTestCa(t);
  const [key, csr] = [join(ca.dir, 'k'), join(ca.dir, 'r')];
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
  const names = 'subjectAltName=URI:spiffe://shop.internal/service/admin,DNS:ca.internal';
  openssl('req', '-new', '-key', key, '-subj', '/CN=admin', '-addext', names, '-out', csr);
  const answer = await ca.send('POST', '/v1/svid', {
    token: await ca.token(ORDERS),
    body: { csr: readFileSync(csr, 'utf8') },
  });
  t.equal(answer.status, 200);
  t.equal(chainOf(answer.body.svid)[0].subjectAltName, `URI:${ORDERS}`);
});

t.test('a request that its key did not sign, or of another kind of key, is refused and wears no token', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const [der] = pemBlocks(makeRequest(await makeKey()), 'CERTIFICATE REQUEST');
  const tampered = Buffer.from(der);
  tampered[tampered.length - 1] ^= 1;
  const requests = [
    pem('CERTIFICATE REQUEST', tampered),
    'nonsense',
    '',
    pem('CERTIFICATE REQUEST', Buffer.of(0x30, 0)),
  ];
  for (const csr of requests)
    t.match(await ca.send('POST', '/v1/svid', { token, body: { csr } }), {
      status: 400,
      body: { code: 'SLV_BAD_REQUEST', reason: 'csr_invalid' },
    });
  t.equal((await ca.ask({ token })).status, 200);
});

t.test('a certificate renews itself, and nobody else', async (t) => {
  const ca = await openTestCa(t);
  const certificate = await ca.svid(ORDERS);
  const answer = await ca.ask({ certificate });
  t.match(answer, { status: 200, body: { id: ORDERS } });
  const csr = makeRequest(await makeKey());
  const asked = await ca.send('POST', '/v1/svid', { certificate, body: { csr, id: CART } });
  t.equal(asked.body.id, ORDERS, 'whatever it asks for');
  const [own] = chainOf(answer.body.svid);
  t.match(ca.audited[0], { event: 'renew', id: ORDERS, from: '127.0.0.1', serial: own.serialNumber });
  t.equal(ca.audited[0].shown, new X509Certificate(certificate.cert).serialNumber);
});

t.test('certificates that have expired, of other CAs, of the CA itself and none at all renew nothing', async (t) => {
  const ca = await openTestCa(t);
  const expired = await ca.svid(ORDERS, { now: Date.now() - 1_800_000, lifeMs: 60_000 });
  t.match(await ca.ask({ certificate: expired }), { status: 401, body: { reason: 'certificate_invalid' } });
  t.match(ca.audited.at(-1)?.detail, /expired/, 'why, is said to the operator only');

  // By its names it is the same trust domain.
  const foreign = await makeDomain(DOMAIN);
  const other = await issueSvid(foreign.intermediate, ORDERS, { now: Date.now() });
  t.match(await ca.ask({ certificate: other }), { status: 401, body: { reason: 'certificate_invalid' } });
  t.match(ca.audited.at(-1), { event: 'refuse', detail: /no known CA/ });
  t.notMatch((await ca.ask({ certificate: other })).text, /known CA/);

  const issuer = readFileSync(join(ca.dir, 'intermediate.pem'), 'utf8');
  t.match(await ca.ask({ certificate: { cert: issuer, key: issuer } }), { status: 401 });
  t.match(await ca.ask({}), { status: 401, body: { reason: 'credentials_missing' } });
  const good = await ca.svid(ORDERS);
  t.match(await ca.ask({ certificate: good, token: 'wrong' }), { status: 401 }, 'a wrong token is not made good');
});

t.test('an identity that was given up renews no more, until it has joined again', async (t) => {
  const ca = await openTestCa(t);
  const [orders, cart] = [await ca.svid(ORDERS), await ca.svid(CART)];
  await revoke(ca.dir, ORDERS, Date.now());
  t.match(await ca.ask({ certificate: orders }), { status: 401, body: { reason: 'certificate_revoked' } });
  t.match(ca.audited.at(-1), { event: 'refuse', detail: new RegExp(ORDERS) });
  t.match(await ca.ask({ certificate: cart }), { status: 200 });
  // Two seconds later, as the certificate counts them.
  const later = await ca.svid(ORDERS, { now: Date.now() + 2_000 });
  t.match(await ca.ask({ certificate: later }), { status: 200 });
  writeFileSync(join(ca.dir, 'revoked.json'), '[');
  t.match(await ca.ask({ certificate: cart }), { status: 500 }, 'a list that cannot be read lets nobody through');
});

t.test('what was given up is remembered for as long as certificates of before live', async (t) => {
  const ca = await openTestCa(t);
  const now = Date.now();
  await revoke(ca.dir, ORDERS, now - 86_000_000);
  await revoke(ca.dir, CART, now);
  t.ok(await isRevoked(ca.dir, ORDERS, now - 86_100_000));
  await revoke(ca.dir, CART, now + 600_000);
  t.notOk(await isRevoked(ca.dir, ORDERS, now - 86_100_000));
});

t.test('an address that asks too often is refused for a while, with one line of the log', async (t) => {
  const clock = new FakeTime();
  const limits = { perAddress: { burst: 3, perMinute: 6 }, perIdentity: { burst: 100, perMinute: 1 } };
  const ca = await openTestCa(t, { limits, clock });
  for (let i = 0; i < 3; i++) t.equal((await ca.send('GET', '/v1/bundle')).status, 200);
  for (let i = 0; i < 5; i++) {
    const answer = await ca.send('GET', '/v1/bundle');
    t.match(answer, { status: 429, headers: { 'retry-after': '10' }, body: { code: 'SLV_RATE_LIMITED' } });
  }
  t.equal(ca.audited.filter(({ reason }) => reason === 'rate_limited').length, 1);
  t.equal((await ca.send('GET', '/healthz')).status, 200, 'health is always told');
  await clock.advance(10_000);
  t.equal((await ca.send('GET', '/v1/bundle')).status, 200);
  t.equal((await ca.send('GET', '/v1/bundle')).status, 429);
});

t.test('an identity that renews too often is refused, without harm to others and to its token', async (t) => {
  const limits = { perAddress: { burst: 100, perMinute: 1 }, perIdentity: { burst: 2, perMinute: 1 } };
  const ca = await openTestCa(t, { limits });
  const certificate = await ca.svid(ORDERS);
  t.equal((await ca.ask({ certificate })).status, 200);
  t.equal((await ca.ask({ certificate })).status, 200);
  t.match(await ca.ask({ certificate }), { status: 429, body: { reason: 'rate_limited' } });
  t.equal((await ca.ask({ certificate: await ca.svid(CART) })).status, 200);
  const token = await ca.token(ORDERS);
  t.equal((await ca.ask({ token })).status, 429);
  t.same(
    readdirSync(join(ca.dir, 'tokens')).filter((name) => name.endsWith('.json')).length,
    1,
    'the token was not spent',
  );
});

t.test('bodies that are too large, or make no sense, are refused as problems without inner details', async (t) => {
  const ca = await openTestCa(t);
  const huge = await ca.send('POST', '/v1/svid', { body: { csr: 'x'.repeat(200_000) } });
  t.match(huge, { status: 413, body: { reason: 'request_invalid', status: 413 } });
  for (const raw of ['{', '[]', '{"csr":1}', '{}', 'null']) {
    const answer = await ca.send('POST', '/v1/svid', { raw });
    t.match(answer, { status: 400, body: { code: 'SLV_BAD_REQUEST', reason: /_invalid$/ } }, raw);
    t.notMatch(answer.text, / at .*\.ts|node_modules/);
  }
  t.match(await ca.send('GET', '/v1/svid'), { status: 404, body: { reason: 'not_found' } });
});

t.test('a failure inside is told without its reason', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const [name] = readdirSync(join(ca.dir, 'tokens'));
  writeFileSync(join(ca.dir, 'tokens', name), 'broken');
  const answer = await ca.ask({ token });
  t.match(answer, { status: 500, body: { code: 'SLV_INTERNAL', reason: 'internal' } });
  t.notMatch(answer.text, ca.dir);
  t.match(ca.log.lines, [/cannot be used/]);
});

t.test('clients that send nothing, before or after the handshake, or never end, are cut off', async (t) => {
  const ca = await openTestCa(t, { requestTimeoutMs: 200 });
  await dial(ca.port).closed();
  await dial(ca.port, '\x16\x03\x01').closed();
  for (const start of ['', 'POST /v1/svid HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{']) {
    const socket = connectTls({ port: ca.port, host: '127.0.0.1', ca: ca.roots });
    socket.on('error', () => {});
    socket.write(start);
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
  }
  t.equal((await ca.send('GET', '/healthz')).status, 200);
});

t.test('every certificate and every refusal leaves a line, none with a secret', async (t) => {
  const ca = await openTestCa(t);
  const token = await ca.token(ORDERS);
  const [, name, secret] = token.split('~');
  const { body } = await ca.ask({ token });
  await ca.ask({ token });
  await ca.ask({ token: 'nonsense-canary' });
  const [leaf] = chainOf(body.svid);
  const from = '127.0.0.1';
  t.match(ca.audited, [
    { event: 'issue', from, id: ORDERS, serial: leaf.serialNumber, expiresAt: body.expiresAt, token: name },
    { event: 'refuse', from, reason: 'token_used', token: name },
    { event: 'refuse', from, reason: 'token_invalid' },
  ]);
  t.equal(ca.audited.length, 3);
  const said = JSON.stringify(ca.audited) + ca.log.lines.join();
  const onDisk = readdirSync(join(ca.dir, 'tokens')).map((file) => readFileSync(join(ca.dir, 'tokens', file), 'utf8'));
  for (const text of [said, ...onDisk]) t.notMatch(text, new RegExp(`${secret}|canary|PRIVATE`));
});

t.test('nobody else can read what lies in the directory, the roots apart', async (t) => {
  const ca = await openTestCa(t);
  await ca.ask({ token: await ca.token(ORDERS) });
  await ca.token(CART);
  const files = readdirSync(ca.dir, { recursive: true, encoding: 'utf8', withFileTypes: true });
  t.ok(files.length > 6);
  for (const file of files) {
    const path = join(file.parentPath, file.name);
    const expected = file.isDirectory() ? 0o700 : file.name === 'ca.crt' ? 0o644 : 0o600;
    t.equal(statSync(path).mode & 0o777, expected, path);
  }
});

t.test('the roots are for everybody, and have the new one as soon as a rollover begins', async (t) => {
  const clock = new FakeTime();
  const ca = await openTestCa(t, { clock });
  t.equal((await ca.send('GET', '/v1/bundle')).body.bundle, ca.roots);
  await rollRoot(ca.dir, DOMAIN, clock.now());
  await clock.advance(10_000);
  await until(() => ca.log.lines.some((line) => line.includes('roots of shop.internal have changed')));
  const { bundle } = (await ca.send('GET', '/v1/bundle')).body;
  t.equal(chainOf(bundle).length, 2);
  await until(() => readFileSync(ca.trust, 'utf8') === bundle);
  const { body } = await ca.ask({ token: await ca.token(ORDERS) });
  t.equal(body.bundle, bundle, 'whoever gets a certificate hears of it');
});

t.test('certificates of before a rollover renew while the old root is trusted', async (t) => {
  const dir = temporaryDirectory(t);
  const before = Date.now() - 3 * 86_400_000;
  await makeCa(dir, before);
  await rollRoot(dir, DOMAIN, before);
  const old = await openTestCa(t, { dir });
  const roots = chainOf(old.roots);
  t.equal(roots.length, 2, 'the new root issues, the old one is on its way out');
  const { body } = await old.ask({ certificate: await old.svid(ORDERS) });
  t.ok(chainOf(body.svid)[1].checkIssued(roots[1]));
});

t.test('the service renews its own certificate while it runs', async (t) => {
  // A day that has two thirds behind it: what it made then is due now.
  const clock = new FakeTime(Date.now() - 17 * 3_600_000);
  const dir = temporaryDirectory(t);
  await makeCa(dir, clock.now());
  const ca = await openTestCa(t, { dir, clock });
  const shown = async (): Promise<string> => {
    const socket = connectTls({ port: ca.port, host: '127.0.0.1', ca: ca.roots });
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    const serial = socket.getPeerX509Certificate()?.serialNumber as string;
    socket.destroy();
    return serial;
  };
  const first = await shown();
  await clock.advance(17 * 3_600_000);
  await until(() => clock.waiting > 0);
  let second = first;
  while (second === first) second = await shown();
  t.not(second, first);
});

t.test('a directory without a CA, or with a broken one, is refused with its name', async (t) => {
  const dir = temporaryDirectory(t);
  const options = { dir, host: '127.0.0.1', port: 0, names: ['localhost'] };
  await t.rejects(openTestCa(t, options), { message: `there is no CA in ${dir}: selvedge ca init makes one` });
  writeFileSync(join(dir, 'root.pem'), 'x', { mode: 0o600 });
  await t.rejects(openTestCa(t, options), { message: /root\.pem cannot be used/ });
  const taken = await openTestCa(t);
  await t.rejects(openTestCa(t, { dir: taken.dir, port: taken.port }), { code: 'EADDRINUSE' });
});

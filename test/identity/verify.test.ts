import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { type Authority, issueSvid, makeIntermediate, makeRoot, openAuthority } from '../../src/identity/authority.ts';
import type { Svid, TrustBundles } from '../../src/identity/source.ts';
import { type PeerSide, type PeerVerdict, verifyPeer } from '../../src/identity/verify.ts';
import { certificatePem, chainOf, type Domain, forge, makeDomain, noOpenssl, openssl } from './support/authorities.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const HOUR_MS = 3_600_000;
const LEAF = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature'];
const now = Date.now();

const shop = await makeDomain('shop.internal');
const partner = await makeDomain('partner.internal');
const bundles = trusting(shop, partner);

function trusting(...domains: readonly Domain[]): TrustBundles {
  return new Map(domains.map(({ trustDomain, bundle }) => [trustDomain, bundle]));
}

function verdict(cert: string, side: PeerSide | null = null, at = Date.now(), known = bundles): PeerVerdict {
  return verifyPeer(chainOf(cert), known, at, side);
}

function refused(
  t: Test,
  cert: string,
  reason: RegExp,
  side: PeerSide | null = null,
  at = Date.now(),
  known = bundles,
): void {
  const result = verdict(cert, side, at, known);
  t.notOk(result.ok);
  t.match(result, { reason });
}

/** With these extensions beyond those of a good leaf. */
function odd(t: Test, ...extensions: readonly string[]): string {
  return forge(t, shop.intermediate, [...LEAF, ...extensions]).cert;
}

t.test('tells who a peer of the own trust domain is', async (t) => {
  const { cert } = await issueSvid(shop.intermediate, ORDERS, { now });
  t.strictSame(verdict(cert), { ok: true, id: { id: ORDERS, trustDomain: 'shop.internal', path: 'service/orders' } });
  t.ok(verdict(cert, 'client').ok);
  t.ok(verdict(cert, 'server').ok);
});

t.test('tells who a peer of a partner is, by the roots of the partner', async (t) => {
  const { cert } = await issueSvid(partner.intermediate, 'spiffe://partner.internal/service/a', { now });
  t.match(verdict(cert), { ok: true, id: { trustDomain: 'partner.internal' } });
  refused(t, cert, /the trust domain partner\.internal is not known/, null, now, trusting(shop));
});

t.test('takes a chain that brings its root, in any order above the leaf', async (t) => {
  const [leaf, above] = chainOf((await issueSvid(shop.intermediate, ORDERS, { now })).cert);
  t.ok(verifyPeer([leaf, above, shop.root.certificate], bundles, now).ok);
  t.ok(verifyPeer([leaf, shop.root.certificate, above], bundles, now).ok);
});

t.test('takes a leaf that a root has signed itself', async (t) => {
  t.ok(verdict((await issueSvid(shop.root, ORDERS, { now })).cert).ok);
});

t.test('refuses an id of ours that the CA of a partner has made', async (t) => {
  refused(t, (await issueSvid(partner.intermediate, ORDERS, { now })).cert, /no known CA has signed it/);
  const [leaf, above] = chainOf((await issueSvid(partner.intermediate, ORDERS, { now })).cert);
  const chain = [leaf, above, partner.root.certificate, shop.root.certificate, shop.intermediate.certificate];
  t.match(verifyPeer(chain, bundles, now), { ok: false }, 'nor with our roots beside it');
});

t.test('refuses a CA that nobody knows, also under the name of one that is known', async (t) => {
  const unknown = await makeDomain('shop.internal');
  refused(t, (await issueSvid(unknown.intermediate, ORDERS, { now })).cert, /no known CA has signed it/);
  const impostor: Authority = {
    ...unknown.intermediate,
    certificate: shop.intermediate.certificate,
    facts: shop.intermediate.facts,
  };
  refused(t, (await issueSvid(impostor, ORDERS, { now })).cert, /a signature is wrong/);
});

t.test('refuses a chain without its intermediate', async (t) => {
  const [leaf] = chainOf((await issueSvid(shop.intermediate, ORDERS, { now })).cert);
  t.match(verifyPeer([leaf], bundles, now), { ok: false, reason: /an intermediate is missing/ });
  t.match(verifyPeer([], bundles, now), { ok: false, reason: 'no certificate' });
});

t.test('refuses what is expired or not yet valid, the leaf and every CA above it', async (t) => {
  const { cert } = await issueSvid(shop.intermediate, ORDERS, { now });
  refused(t, cert, /^expired at /, null, now + 24.1 * HOUR_MS);
  refused(t, cert, /^not valid before /, null, now - 2 * 60_000);
  const short = await makeIntermediate(shop.root, 'shop.internal', { now, lifeMs: HOUR_MS });
  const outliving = { ...short, facts: { ...short.facts, notAfter: now + 48 * HOUR_MS } };
  refused(t, (await issueSvid(outliving, ORDERS, { now })).cert, /its CA: expired/, null, now + 2 * HOUR_MS);
  const shortRoot = await makeRoot('shop.internal', { now, lifeMs: HOUR_MS });
  const below = await issueSvid({ ...shortRoot, facts: { ...shortRoot.facts, notAfter: now + 48 * HOUR_MS } }, ORDERS, {
    now,
  });
  const known = new Map([['shop.internal', certificatePem(shortRoot)]]);
  t.ok(verdict(below.cert, null, now, known).ok);
  refused(t, below.cert, /its CA: expired/, null, now + 2 * HOUR_MS, known);
});

t.test('refuses a CA certificate in the place of a leaf', { skip: noOpenssl }, async (t) => {
  refused(t, certificatePem(shop.intermediate), /a CA certificate/);
  refused(t, certificatePem(shop.root), /a CA certificate/);
  const ca = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,digitalSignature'];
  refused(t, forge(t, shop.root, [...ca, `subjectAltName=URI:${ORDERS}`]).cert, /a CA certificate/);
});

t.test('refuses a leaf that has signed another one', { skip: noOpenssl }, async (t) => {
  const { cert, key } = await issueSvid(shop.intermediate, 'spiffe://shop.internal/service/evil', { now });
  const [certificate] = chainOf(cert);
  const evil: Authority = { ...shop.intermediate, certificate, key: createPrivateKey(key) };
  const made = forge(t, evil, [...LEAF, `subjectAltName=URI:${ORDERS}`]).cert;
  const result = verifyPeer([...chainOf(made), shop.intermediate.certificate], bundles, Date.now());
  t.match(result, { ok: false, reason: /the issuer is not a CA|no known CA/ });
});

t.test('refuses more CAs in a row than the upper ones allow', async (t) => {
  const second = await makeIntermediate(shop.intermediate, 'shop.internal', { now });
  const chain = [...chainOf((await issueSvid(second, ORDERS, { now })).cert), shop.intermediate.certificate];
  t.match(verifyPeer(chain, bundles, now), { ok: false, reason: /longer than its CA allows/ });
});

t.test('refuses a leaf whose names are not one SPIFFE id', { skip: noOpenssl }, async (t) => {
  refused(t, odd(t), /no URI SAN/);
  refused(t, odd(t, 'subjectAltName=DNS:orders.shop.internal'), /no URI SAN/);
  refused(t, odd(t, `subjectAltName=URI:${ORDERS},URI:spiffe://shop.internal/service/cart`), /2 URI SANs/);
  refused(t, odd(t, `subjectAltName=URI:${ORDERS},URI:https://shop.internal/`), /2 URI SANs/);
  for (const uri of [
    'https://shop.internal/service/orders',
    'spiffe://shop.internal:80/a',
    'spiffe://shop.internal/a/../b',
  ])
    refused(t, odd(t, `subjectAltName=URI:${uri}`), /no SPIFFE id/);
  refused(t, odd(t, 'subjectAltName=URI:spiffe://shop.internal'), /names a trust domain/);
  t.ok(verdict(odd(t, `subjectAltName=URI:${ORDERS},DNS:orders.shop.internal`)).ok, 'a DNS name beside it is no harm');
});

t.test('refuses a leaf that may not be used like this', { skip: noOpenssl }, async (t) => {
  const name = `subjectAltName=URI:${ORDERS}`;
  const plain = 'basicConstraints=critical,CA:FALSE';
  const usage = (value: string): string =>
    forge(t, shop.intermediate, [plain, name, `keyUsage=critical,${value}`]).cert;
  refused(t, usage('keyAgreement'), /does not allow digital signatures/);
  refused(t, usage('digitalSignature,keyCertSign'), /that of a CA/);
  refused(t, usage('digitalSignature,cRLSign'), /that of a CA/);
  refused(t, forge(t, shop.intermediate, [plain, name]).cert, /does not allow digital signatures/);
  const purpose = (value: string): string => odd(t, name, `extendedKeyUsage=${value}`);
  refused(t, purpose('codeSigning'), /does not allow a TLS client or server/);
  refused(t, purpose('serverAuth'), /does not allow a TLS client/, 'client');
  refused(t, purpose('clientAuth'), /does not allow a TLS server/, 'server');
  t.ok(verdict(purpose('clientAuth'), 'client').ok);
  t.ok(verdict(purpose('anyExtendedKeyUsage'), 'server').ok);
  t.ok(verdict(odd(t, name), 'server').ok, 'without the extension it may be either');
});

t.test('refuses a critical extension that it does not know', { skip: noOpenssl }, async (t) => {
  const name = `subjectAltName=URI:${ORDERS}`;
  refused(t, odd(t, name, '1.2.3.4=critical,ASN1:NULL'), /critical extension 1\.2\.3\.4 is not known/);
  t.ok(verdict(odd(t, name, '1.2.3.4=ASN1:NULL')).ok);
});

t.test('takes a chain by either of two roots during a rollover, and by neither one alone', async (t) => {
  const next = await makeDomain('shop.internal');
  const both = new Map([['shop.internal', shop.bundle + next.bundle]]);
  for (const { intermediate } of [shop, next])
    t.ok(verdict((await issueSvid(intermediate, ORDERS, { now })).cert, null, now, both).ok);
  refused(t, (await issueSvid(next.intermediate, ORDERS, { now })).cert, /no known CA/, null, now, trusting(shop));
});

t.test('finds the way through an intermediate that two roots have signed', { skip: noOpenssl }, async (t) => {
  const other = await makeRoot('shop.internal', { now });
  const ca = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'];
  const trusted = forge(t, shop.root, ca);
  const [unknown] = chainOf(forge(t, other, ca, trusted.key).cert);
  const [known] = chainOf(trusted.cert);
  const issuer = openAuthority(known, createPrivateKey(trusted.key));
  const [leaf] = chainOf((await issueSvid(issuer, ORDERS, { now: Date.now() })).cert);
  t.ok(verifyPeer([leaf, unknown, known], bundles, Date.now()).ok, 'the wrong one first');
  t.ok(verifyPeer([leaf, known, unknown], bundles, Date.now()).ok);
  t.notOk(verifyPeer([leaf, unknown], bundles, Date.now()).ok);
});

t.test('gives up on certificates that have all signed each other', { skip: noOpenssl }, async (t) => {
  const dir = t.testdir();
  const [key, file] = [join(dir, 'key'), join(dir, 'crt')];
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
  const same = Array.from({ length: 6 }, () => {
    openssl('req', '-x509', '-new', '-key', key, '-subj', '/CN=same', '-out', file);
    return new X509Certificate(readFileSync(file));
  });
  const { cert } = await issueSvid(openAuthority(same[0], createPrivateKey(readFileSync(key))), ORDERS, {
    now: Date.now(),
  });
  const [leaf] = chainOf(cert);
  t.match(verifyPeer([leaf, ...same], bundles, Date.now()), { ok: false, reason: /too many ways/ });
  t.match(verifyPeer(new Array(9).fill(leaf), bundles, now), { ok: false, reason: /more than 8/ });
});

t.test('a bundle that cannot be read refuses everybody of its trust domain', async (t) => {
  const { cert } = await issueSvid(shop.intermediate, ORDERS, { now });
  refused(t, cert, /bundle of shop\.internal cannot be read/, null, now, new Map([['shop.internal', 'nonsense']]));
});

/** Two handshakes, the second one resumed where that works; what `server` made of each. */
async function twoHandshakes(t: Test, server: Svid, client: Svid, known: TrustBundles) {
  const verdicts: { readonly resumed: boolean; readonly verdict: PeerVerdict }[] = [];
  const listener = createServer(
    { cert: server.cert, key: server.key, ca: [...known.values()], requestCert: true, sessionIdContext: 'test' },
    (socket) => {
      verdicts.push({ resumed: socket.isSessionReused(), verdict: verifyPeer(socket, known, now, 'client') });
      socket.end('done');
    },
  ).listen(0, '127.0.0.1');
  t.teardown(() => listener.close());
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  let session: Buffer | undefined;
  const seen: PeerVerdict[] = [];
  for (let round = 0; round < 2; round++) {
    const socket: TLSSocket = connect({
      ...{ host: '127.0.0.1', port, cert: client.cert, key: client.key, ca: [...known.values()], session },
      checkServerIdentity: () => undefined,
    });
    socket.on('session', (data) => {
      session = data;
    });
    await once(socket, 'secureConnect');
    seen.push(verifyPeer(socket, known, now, 'server'));
    socket.resume();
    await once(socket, 'close');
  }
  return { verdicts, seen };
}

t.test('judges both ends of a TLS connection, and a resumed one by what was good before', async (t) => {
  const [a, b] = [
    await issueSvid(shop.intermediate, ORDERS, { now }),
    await issueSvid(shop.intermediate, 'spiffe://shop.internal/service/b', { now }),
  ];
  const { verdicts, seen } = await twoHandshakes(t, a, b, trusting(shop));
  t.match(verdicts, [
    { resumed: false, verdict: { ok: true, id: { id: b.id } } },
    { resumed: true, verdict: { ok: true, id: { id: b.id } } },
  ]);
  t.match(seen[0], { ok: true, id: { id: a.id } });
  t.match(seen[1], { ok: false, reason: /resumed without a certificate/ });
});

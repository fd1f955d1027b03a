import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  INTERMEDIATE_LIFE_MS,
  issue,
  issueForRequest,
  issueSvid,
  LEAF_LIFE_MS,
  makeIntermediate,
  makeKey,
  makeRoot,
} from '../../src/identity/authority.ts';
import { certificateFacts, KEY_USAGE } from '../../src/identity/certificate-facts.ts';
import { pem, pemBlocks } from '../../src/identity/pem.ts';
import { keyOfRequest, MAX_REQUEST_BYTES, makeRequest } from '../../src/identity/signing-request.ts';
import { certificatePem, chainOf, makeDomain, noOpenssl, openssl } from './support/authorities.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const DAY_MS = 86_400_000;

t.test('openssl accepts the chain for both sides of a connection', { skip: noOpenssl }, async (t) => {
  const { root, intermediate } = await makeDomain('shop.internal');
  const { cert } = await issueSvid(intermediate, ORDERS, { now: Date.now() });
  const dir = t.testdir({
    'root.pem': certificatePem(root),
    'above.pem': certificatePem(intermediate),
    'leaf.pem': cert,
  });
  for (const purpose of ['sslserver', 'sslclient']) {
    const said = openssl(
      ...['verify', '-x509_strict', '-purpose', purpose, '-CAfile', join(dir, 'root.pem')],
      ...['-untrusted', join(dir, 'above.pem'), join(dir, 'leaf.pem')],
    );
    t.match(said, /: OK/);
  }
});

t.test('openssl reads in the certificates what X509-SVID.md asks for', { skip: noOpenssl }, async (t) => {
  const { root, intermediate } = await makeDomain('shop.internal');
  const { cert } = await issueSvid(intermediate, ORDERS, { now: Date.now() });
  const text = (certificate: string): string => {
    const file = join(t.testdir(), 'cert.pem');
    writeFileSync(file, certificate);
    return openssl('x509', '-in', file, '-noout', '-text').replace(/\s+/g, ' ');
  };
  const leaf = text(cert);
  t.match(leaf, 'Version: 3 (0x2)');
  t.match(leaf, 'Signature Algorithm: ecdsa-with-SHA256');
  t.match(leaf, /Subject: Subject Public Key Info/, 'no subject');
  t.match(leaf, 'NIST CURVE: P-256');
  t.match(leaf, 'X509v3 Basic Constraints: critical CA:FALSE');
  t.match(leaf, 'X509v3 Key Usage: critical Digital Signature X509v3');
  t.match(leaf, 'X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication');
  t.match(leaf, `X509v3 Subject Alternative Name: critical URI:${ORDERS} X509v3`);
  const above = text(certificatePem(intermediate));
  t.match(above, 'CA:TRUE, pathlen:0');
  t.match(above, 'X509v3 Key Usage: critical Certificate Sign, CRL Sign X509v3');
  t.match(above, 'X509v3 Subject Alternative Name: URI:spiffe://shop.internal X509v3');
  t.match(text(certificatePem(root)), 'CA:TRUE, pathlen:1');
  const keyId = (text: string, kind: string): string | undefined =>
    new RegExp(`${kind} Key Identifier: (\\S+)`).exec(text)?.[1];
  t.ok(keyId(above, 'Subject'));
  t.equal(keyId(leaf, 'Authority'), keyId(above, 'Subject'));
});

t.test('openssl accepts a request of ours', { skip: noOpenssl }, async (t) => {
  const file = join(t.testdir(), 'request.pem');
  writeFileSync(file, makeRequest(await makeKey()));
  t.match(openssl('req', '-in', file, '-noout', '-verify', '-text'), 'NIST CURVE: P-256');
});

t.test(
  'a request of openssl gets a certificate with the id of the caller, whatever it asks for',
  { skip: noOpenssl },
  async (t) => {
    const { intermediate } = await makeDomain('shop.internal');
    const dir = t.testdir();
    const [key, request] = [join(dir, 'key'), join(dir, 'csr')];
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
    openssl(
      ...['req', '-new', '-key', key, '-subj', '/CN=root of all', '-out', request],
      ...[
        '-addext',
        'basicConstraints=critical,CA:TRUE',
        '-addext',
        'subjectAltName=URI:spiffe://shop.internal/service/admin',
      ],
    );
    const { cert } = issueForRequest(intermediate, ORDERS, openssl('req', '-in', request), { now: Date.now() });
    const facts = certificateFacts(new X509Certificate(cert));
    t.strictSame(facts.uris, [ORDERS]);
    t.equal(facts.ca, false);
    t.equal(facts.subject.length, 2, 'an empty sequence');
    t.equal(
      new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'pem' }),
      openssl('pkey', '-in', key, '-pubout'),
    );
  },
);

t.test('requests with keys of another kind are refused', { skip: noOpenssl }, async (t) => {
  const dir = t.testdir();
  for (const [kind, ...options] of [['RSA'], ['EC', '-pkeyopt', 'ec_paramgen_curve:P-384'], ['ED25519']]) {
    const key = join(dir, 'key');
    openssl('genpkey', '-algorithm', kind, ...options, '-out', key);
    t.throws(
      () => keyOfRequest(openssl('req', '-new', '-key', key, '-subj', '/CN=a')),
      /P-256|ECDSA with SHA-256/,
      kind,
    );
  }
});

t.test('a leaf lives a day, beginning a minute early', async (t) => {
  const now = Date.UTC(2030, 0, 1);
  const { intermediate } = await makeDomain('shop.internal', now - DAY_MS);
  const { notBefore, expiresAt } = await issueSvid(intermediate, ORDERS, { now });
  t.equal(notBefore, now - 60_000);
  t.equal(expiresAt, now + LEAF_LIFE_MS);
});

t.test('no certificate outlives the one above it, or begins before it', async (t) => {
  const now = Date.UTC(2030, 0, 1);
  const root = await makeRoot('shop.internal', { now, lifeMs: 10 * DAY_MS });
  const intermediate = await makeIntermediate(root, 'shop.internal', { now: now + DAY_MS });
  t.equal(intermediate.facts.notAfter, root.facts.notAfter, 'not a year');
  const late = await issueSvid(intermediate, ORDERS, { now: now + 9.5 * DAY_MS });
  t.equal(late.expiresAt, root.facts.notAfter);
  const early = await issueSvid(intermediate, ORDERS, { now: now + DAY_MS - 30_000 });
  t.equal(early.notBefore, intermediate.facts.notBefore);
  await t.rejects(issueSvid(intermediate, ORDERS, { now: now + 11 * DAY_MS }), /has expired/);
});

t.test('dates from 2050 on are written as such certificates write them', async (t) => {
  const now = Date.UTC(2049, 11, 31);
  const root = await makeRoot('shop.internal', { now });
  t.equal(root.facts.notAfter, now + 3_650 * DAY_MS);
  t.equal(Date.parse(root.certificate.validTo), root.facts.notAfter, 'node:crypto reads the same');
  t.ok((await makeIntermediate(root, 'shop.internal', { now })).facts.notAfter === now + INTERMEDIATE_LIFE_MS);
});

t.test('serial numbers are 128 random bits', async (t) => {
  const { intermediate } = await makeDomain('shop.internal');
  const key = createPublicKey(await makeKey());
  const serials = Array.from({ length: 50 }, () => {
    const [leaf] = chainOf(issue(intermediate, ORDERS, key, { now: Date.now() }).cert);
    return leaf.serialNumber;
  });
  t.equal(new Set(serials).size, 50);
  t.ok(serials.every((serial) => serial.length >= 30 && serial.length <= 32));
});

t.test('no certificate is made for what is no workload, or for a key of another curve', async (t) => {
  const { intermediate } = await makeDomain('shop.internal');
  const key = createPublicKey(await makeKey());
  for (const id of ['https://shop.internal/a', 'spiffe://shop.internal', 'spiffe://shop.internal/', 'orders'])
    t.throws(() => issue(intermediate, id, key, { now: Date.now() }), /not the SPIFFE id of a workload/, id);
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  t.throws(() => issue(intermediate, ORDERS, publicKey, { now: Date.now() }), /P-256/);
});

t.test('a request that was changed anywhere is refused', async (t) => {
  const key = await makeKey();
  const [der] = pemBlocks(makeRequest(key), 'CERTIFICATE REQUEST');
  t.ok(keyOfRequest(pem('CERTIFICATE REQUEST', der)).equals(createPublicKey(key)));
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(der);
      changed[at] ^= change;
      try {
        keyOfRequest(pem('CERTIFICATE REQUEST', changed));
        return false;
      } catch {
        return true;
      }
    }),
    { seed: 1, numRuns: 2_000 },
  );
  t.throws(
    () => keyOfRequest(pem('CERTIFICATE REQUEST', Buffer.concat([der, Buffer.of(5, 0)]))),
    /malformed/,
    'more after it',
  );
  for (let length = 0; length < der.length; length += 1)
    if (!throws(() => keyOfRequest(pem('CERTIFICATE REQUEST', der.subarray(0, length)))))
      t.fail(`${length} bytes of it`);
});

t.test('a request signed with another key than its own is refused', async (t) => {
  const [[own], [other]] = [makeRequest(await makeKey()), makeRequest(await makeKey())].map((text) =>
    pemBlocks(text, 'CERTIFICATE REQUEST'),
  );
  // The body of one with the signature of the other: all lengths before the signature are the same.
  const bodyEnd = 3 + own[4] + 2;
  const mixed = Buffer.concat([own.subarray(0, bodyEnd), other.subarray(bodyEnd)]);
  mixed[2] = other[2];
  t.throws(() => keyOfRequest(pem('CERTIFICATE REQUEST', mixed)), /not signed with its own key/);
});

t.test('what is no request is refused before it is looked into', async (t) => {
  const request = makeRequest(await makeKey());
  t.throws(() => keyOfRequest(''), /not one PEM block/);
  t.throws(() => keyOfRequest(request + request), /not one PEM block/);
  t.throws(() => keyOfRequest(request + ' '.repeat(MAX_REQUEST_BYTES)), /more than 16384 bytes/);
});

t.test('the facts of a certificate are those that its maker put in', async (t) => {
  const { root, intermediate } = await makeDomain('shop.internal');
  t.match(root.facts, { ca: true, pathLength: 1, uris: ['spiffe://shop.internal'], unknownCritical: null });
  t.match(intermediate.facts, { ca: true, pathLength: 0, keyUsage: KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign });
  const [leaf] = chainOf((await issueSvid(intermediate, ORDERS, { now: Date.now() })).cert);
  t.match(certificateFacts(leaf), { ca: false, pathLength: null, keyUsage: KEY_USAGE.digitalSignature, otherNames: 0 });
  t.equal(certificateFacts(leaf).extKeyUsage?.length, 2);
});

function throws(act: () => unknown): boolean {
  try {
    act();
    return false;
  } catch {
    return true;
  }
}

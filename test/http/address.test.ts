// `host:port` texts and sets of networks.
import { isIPv4 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { AddressSet, formatHostPort, isCidr, parseHost, parseHostPort, plainAddress } from '../../src/http/address.ts';

t.test('host and port are read from names, IPv4 and bracketed IPv6 addresses', async (t) => {
  const rows: readonly [string, string, number][] = [
    ['orders.internal:80', 'orders.internal', 80],
    ['Orders.Internal.:80', 'orders.internal.', 80],
    ['localhost:0', 'localhost', 0],
    ['10.0.0.5:65535', '10.0.0.5', 65_535],
    ['[::1]:3000', '::1', 3000],
    ['[2001:DB8::1]:443', '2001:db8::1', 443],
    ['a_b-c:1', 'a_b-c', 1],
    ['3com.example:1', '3com.example', 1],
  ];
  for (const [text, host, port] of rows) t.strictSame(parseHostPort(text), { host, port }, text);
});

t.test('what is no host and port is null', async (t) => {
  const texts = [
    '',
    ':80',
    'a',
    'a:',
    'a:x',
    'a:65536',
    'a:-1',
    'a:1:2',
    'a:080000',
    '::1:80',
    '[::1]',
    '[::1',
    '[::1]80',
    '[]:80',
    '[1.2.3.4]:80',
    '[fe80::1%eth0]:80',
    '1.2.3:80',
    '1.2.3.256:80',
    '0x7f.1:80',
    'a..b:80',
    '-a:80',
    'a-:80',
    'a b:80',
    'a/b:80',
    'ä:80',
    `${'a'.repeat(64)}:80`,
    `${'a.'.repeat(127)}a:80`,
  ];
  for (const text of texts) t.equal(parseHostPort(text), null, JSON.stringify(text));
});

t.test('a missing port is the default one, when there is one', async (t) => {
  t.strictSame(parseHostPort('a.example', 443), { host: 'a.example', port: 443 });
  t.strictSame(parseHostPort('a.example:', 443), { host: 'a.example', port: 443 });
  t.strictSame(parseHostPort('[::1]', 80), { host: '::1', port: 80 });
  t.equal(parseHostPort('a.example:99999', 443), null);
});

t.test('formatting and parsing are inverse', async (t) => {
  const host = fc
    .oneof(fc.domain(), fc.ipV4(), fc.ipV6())
    .filter((text) => parseHost(text.includes(':') ? `[${text}]` : text) !== null);
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), (host, port) => {
      const parsed = parseHostPort(formatHostPort(host, port));
      return parsed !== null && parsed.host === host.toLowerCase() && parsed.port === port;
    }),
  );
  t.equal(formatHostPort('::1', 80), '[::1]:80');
});

t.test('networks are addresses and CIDRs', async (t) => {
  for (const good of ['10.0.0.0/8', '10.0.0.1', '0.0.0.0/0', '2001:db8::/32', '::1', '::/0', '::ffff:10.0.0.0/104'])
    t.ok(isCidr(good), good);
  for (const bad of [
    '',
    '10.0.0.0/33',
    '10.0.0/8',
    '10.0.0.0/',
    '10.0.0.0/a',
    '::/129',
    'example.com',
    '10.0.0.0/8/8',
    'fe80::1%eth0',
    '::ffff:10.0.0.0/95',
  ]) {
    t.notOk(isCidr(bad), bad);
    t.throws(() => new AddressSet([bad]), RangeError, bad);
  }
});

t.test('an IPv4 address is the same address when a dual-stack socket writes it as IPv6', async (t) => {
  const set = new AddressSet(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7', '::ffff:172.16.0.0/108']);
  for (const inside of ['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::5', '192.0.2.7', '::ffff:192.0.2.7', '172.16.0.9'])
    t.ok(set.has(inside), inside);
  for (const outside of ['11.0.0.1', '::ffff:11.0.0.1', '2001:db9::5', '192.0.2.8', '', 'example.com', '10.1.2.3:80'])
    t.notOk(set.has(outside), outside);
  t.notOk(new AddressSet([]).has('10.0.0.1'));
  t.equal(plainAddress('::ffff:10.1.2.3'), '10.1.2.3');
  t.equal(plainAddress('::1'), '::1');
});

t.test('an address is in a network exactly when their first bits are equal', async (t) => {
  const toNumber = (ip: string): number => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  fc.assert(
    fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (network, ip, bits) => {
      const size = 2 ** (32 - bits);
      const same = Math.floor(toNumber(network) / size) === Math.floor(toNumber(ip) / size);
      return isIPv4(ip) && new AddressSet([`${network}/${bits}`]).has(ip) === same;
    }),
  );
  t.pass('for random networks');
});

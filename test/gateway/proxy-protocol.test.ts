import fc from 'fast-check';
import t from 'tap';
import { MAX_PROXY_HEADER, readProxyHeader } from '../../src/gateway/proxy-protocol.ts';
import { tcp4, tcp6, binaryHeader as v2 } from '../support/proxy-header.ts';

const line = (text: string): Buffer => Buffer.from(text, 'latin1');
const from = (sourceAddress: string, destinationPort = 443) => ({ sourceAddress, destinationPort });
const V6 = '20010db8000000000000000000000009';

/** Everything that is a header, with what it says. */
const WHOLE: readonly (readonly [string, Buffer, ReturnType<typeof from> | null])[] = [
  ['TCP4', line('PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n'), from('203.0.113.7')],
  ['TCP6', line('PROXY TCP6 2001:DB8:0:0::9 2001:db8::1 40000 8443\r\n'), from('2001:db8::9', 8443)],
  ['mapped TCP6', line('PROXY TCP6 ::ffff:203.0.113.7 ::1 1 443\r\n'), from('203.0.113.7')],
  ['UNKNOWN', line('PROXY UNKNOWN\r\n'), null],
  ['UNKNOWN with words', line('PROXY UNKNOWN ffff:f...f:ffff x y z\r\n'), null],
  ['the longest line', line(`PROXY UNKNOWN ${'f:'.repeat(45)}f\r\n`), null],
  ['v2 TCP4', v2(0x21, 0x11, tcp4('203.0.113.7')), from('203.0.113.7')],
  ['v2 TCP6', v2(0x21, 0x21, tcp6(V6)), from('2001:db8::9')],
  ['v2 mapped TCP6', v2(0x21, 0x21, tcp6(`${'0'.repeat(20)}ffffcb007107`)), from('203.0.113.7')],
  [
    'v2 with TLVs',
    v2(0x21, 0x11, Buffer.concat([tcp4('203.0.113.7', 8443), Buffer.alloc(300, 4)])),
    from('203.0.113.7', 8443),
  ],
  ['v2 LOCAL', v2(0x20, 0x00, Buffer.alloc(0)), null],
  ['v2 LOCAL with addresses', v2(0x20, 0x11, tcp4('203.0.113.7')), null],
  ['v2 LOCAL of any family', v2(0x20, 0x7f, Buffer.alloc(9)), null],
  ['v2 UNSPEC', v2(0x21, 0x00, Buffer.alloc(40, 1)), null],
  ['v2 UNIX', v2(0x21, 0x31, Buffer.alloc(216, 97)), null],
  [
    'v2 as long as allowed',
    v2(0x21, 0x11, Buffer.concat([tcp4('203.0.113.7'), Buffer.alloc(MAX_PROXY_HEADER - 28)])),
    from('203.0.113.7'),
  ],
];

t.test('a header says where the connection comes from, and where it ends', async (t) => {
  for (const [name, header, connection] of WHOLE) {
    t.same(readProxyHeader(header), { kind: 'whole', length: header.length, connection }, name);
    const followed = Buffer.concat([header, line('GET / HTTP/1.1\r\n')]);
    t.same(readProxyHeader(followed), { kind: 'whole', length: header.length, connection }, `${name}, followed`);
  }
});

t.test('however it is split, a header is partial until its last byte', async (t) => {
  for (const [name, header] of WHOLE) {
    const early = Array.from(header.keys()).filter(
      (end) => readProxyHeader(header.subarray(0, end)).kind !== 'partial',
    );
    t.same(early, [], name);
  }
});

t.test('what is no header, or a malformed one, says so', async (t) => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['GET / HTTP/1.1\r\n', /no PROXY header/],
    ['\x16\x03\x01', /no PROXY header/],
    ['proxy TCP4 203.0.113.7 192.0.2.1 40000 443\r\n', /no PROXY header/],
    ['PROXY\tTCP4', /no PROXY header/],
    ['\r\n\r\n\0\r\nQUIX\n', /no PROXY header/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\n', /does not end in CR LF/],
    [`PROXY UNKNOWN ${'f'.repeat(92)}\r\n`, /longer than 107 bytes/],
    [`PROXY ${'x'.repeat(500)}`, /longer than 107 bytes/],
    ['PROXY TCP5 203.0.113.7 192.0.2.1 40000 443\r\n', /no known kind/],
    ['PROXY UNKNOWNS\r\n', /no known kind/],
    ['PROXY  TCP4 203.0.113.7 192.0.2.1 40000 443\r\n', /no known kind/],
    ['PROXY \r\n', /no known kind/],
    ['PROXY TCP4\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000 443 5\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.7  192.0.2.1 40000 443\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.007 192.0.2.1 40000 443\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 0x7f.0.0.1 192.0.2.1 40000 443\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 2001:db8::9 2001:db8::1 40000 443\r\n', /two TCP4 addresses/],
    ['PROXY TCP6 203.0.113.7 192.0.2.1 40000 443\r\n', /two TCP6 addresses/],
    ['PROXY TCP6 fe80::1%eth0 2001:db8::1 40000 443\r\n', /two TCP6 addresses/],
    ['PROXY TCP4 a.example 192.0.2.1 40000 443\r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n', /two ports/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000 -1\r\n', /two ports/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 040000 443\r\n', /two ports/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000 443 \r\n', /two TCP4 addresses/],
    ['PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\r\n', /two ports/],
  ];
  for (const [text, reason] of cases) t.match(readProxyHeader(line(text)), { kind: 'malformed', reason }, text);
  const binary: readonly (readonly [string, Buffer, RegExp])[] = [
    ['version 1 in binary', v2(0x11, 0x11, tcp4('203.0.113.7')), /version or command/],
    ['an unknown command', v2(0x22, 0x11, tcp4('203.0.113.7')), /version or command/],
    ['datagrams', v2(0x21, 0x12, tcp4('203.0.113.7')), /datagrams/],
    ['an unknown family', v2(0x21, 0x41, tcp4('203.0.113.7')), /no known family/],
    ['TCP4 too short', v2(0x21, 0x11, Buffer.alloc(11)), /too short/],
    ['TCP6 too short', v2(0x21, 0x21, Buffer.alloc(35)), /too short/],
    ['UNIX too short', v2(0x21, 0x31, Buffer.alloc(215)), /too short/],
    ['too long, before it has come', v2(0x21, 0x11, tcp4('203.0.113.7'), 4_081), /longer than 4096 bytes/],
    ['LOCAL too long', v2(0x20, 0x00, Buffer.alloc(0), 65_535), /longer than 4096 bytes/],
  ];
  for (const [name, bytes, reason] of binary) t.match(readProxyHeader(bytes), { kind: 'malformed', reason }, name);
});

t.test('no bytes make it throw, wait for more than is allowed, or change its mind as more of them come', async () => {
  const start = fc.constantFrom(
    '',
    'PROXY ',
    'PROXY TCP4 ',
    'PROXY TCP6 ::1 ',
    'PROXY UNKNOWN',
    '\r\n\r\n\0\r\nQUIT\n',
    '\r\n\r\n\0\r\nQUIT\n!\x11',
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 200 }), fc.boolean(), (text, noise, padded) => {
      const bytes = Buffer.concat([line(text), noise, padded ? Buffer.alloc(MAX_PROXY_HEADER) : Buffer.alloc(0)]);
      const verdict = readProxyHeader(bytes);
      if (bytes.length >= MAX_PROXY_HEADER && verdict.kind === 'partial') return false;
      let decided: ReturnType<typeof readProxyHeader> | null = null;
      for (let end = 0; end <= Math.min(bytes.length, 300); end++) {
        const early = readProxyHeader(bytes.subarray(0, end));
        if (decided === null) decided = early.kind === 'partial' ? null : early;
        else if (JSON.stringify(decided) !== JSON.stringify(early)) return false;
      }
      return decided === null || JSON.stringify(decided) === JSON.stringify(verdict);
    }),
    { numRuns: 500 },
  );
});

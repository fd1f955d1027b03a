// A request inside a request: whatever a client writes, a service behind sees no more requests than the gateway judged.
import t, { type Test } from 'tap';
import { edgeTo, run } from './support/gateway.ts';
import { exchange, httpUpstream, RawClient, statusOf } from './support/sockets.ts';

const INNER = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
const CHUNKED = `0\r\n\r\n${INNER}`;

interface Capture {
  readonly port: number;
  /** Targets as Node's own server read them. */
  readonly served: string[];
  /** Everything that came, a text for each connection. */
  readonly wires: string[];
}

async function capturing(t: Test): Promise<Capture> {
  const served: string[] = [];
  const wires: string[] = [];
  const { port, server } = await httpUpstream(t, (req, res) => {
    served.push(req.url as string);
    req
      .on('error', () => undefined)
      .on('end', () => res.end(`[${req.url}]`))
      .resume();
  });
  server.on('connection', (socket) => {
    const index = wires.push('') - 1;
    socket.on('data', (chunk: Buffer) => {
      wires[index] += chunk.toString('latin1');
    });
  });
  return { port, served, wires };
}

interface Reader {
  /** Takes a bare LF for a line end, and names and codings for what they resemble. */
  readonly lenient: boolean;
  readonly first: 'content-length' | 'transfer-encoding';
}

const READERS: readonly Reader[] = [
  { lenient: false, first: 'transfer-encoding' },
  { lenient: true, first: 'transfer-encoding' },
  { lenient: true, first: 'content-length' },
];

/** The request targets that somebody who reads like this finds in what came over one connection. */
function targetsIn(wire: string, { lenient, first }: Reader): string[] {
  const targets: string[] = [];
  const lineEnd = lenient ? /\r?\n/ : /\r\n/;
  let rest = wire;
  for (;;) {
    const end = (lenient ? /\r?\n\r?\n/ : /\r\n\r\n/).exec(rest);
    if (end === null) return targets;
    const [line, ...lines] = rest.slice(0, end.index).split(lineEnd);
    rest = rest.slice(end.index + end[0].length);
    targets.push(line.split(' ')[1]);
    const value = (name: string): string | undefined =>
      lines
        .find((text) => (lenient ? text.toLowerCase().replace(/\s/g, '') : text.toLowerCase()).startsWith(`${name}`))
        ?.split(':')[1];
    const length = Number.parseInt(value('content-length') ?? '', 10);
    const chunked = /chunked/i.test(value('transfer-encoding') ?? '');
    if (chunked && (first === 'transfer-encoding' || Number.isNaN(length))) rest = behindChunks(rest, lineEnd);
    else if (!Number.isNaN(length)) rest = rest.slice(length);
  }
}

function behindChunks(text: string, lineEnd: RegExp): string {
  let rest = text;
  for (;;) {
    const end = lineEnd.exec(rest);
    if (end === null) return '';
    const size = Number.parseInt(rest.slice(0, end.index), 16);
    rest = rest.slice(end.index + end[0].length);
    if (!(size > 0)) break;
    rest = rest.slice(size).replace(/^\r?\n/, '');
  }
  return rest.replace(/^\r?\n|^[\s\S]*?\r?\n\r?\n/, '');
}

const head = (fields: string, line = 'POST /front HTTP/1.1'): string => `${line}\r\nHost: a\r\n${fields}\r\n\r\n`;
const length = INNER.length;

/** Framing that two readers may take differently. */
const REFUSED: Readonly<Record<string, string>> = {
  'CL.TE': head(`Content-Length: ${CHUNKED.length}\r\nTransfer-Encoding: chunked`) + CHUNKED,
  'TE.CL': `${head('Transfer-Encoding: chunked\r\nContent-Length: 4')}${length.toString(16)}\r\n${INNER}\r\n0\r\n\r\n`,
  'CL 0 and TE': head('Content-Length: 0\r\nTransfer-Encoding: chunked') + CHUNKED,
  ...Object.fromEntries(
    [
      'Transfer-Encoding: xchunked',
      'Transfer-Encoding: chunked, identity',
      'Transfer-Encoding: identity, chunked',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
      'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: \x0bchunked',
      'Transfer-Encoding: "chunked"',
      "Transfer-Encoding: 'chunked'",
      'Transfer-Encoding: chunked;q=0.5',
      'Transfer-Encoding: chunked\x00',
      'Transfer-Encoding:\r\n chunked',
      'Transfer-Encoding : chunked',
      'Transfer-Encoding\t: chunked',
      ' Transfer-Encoding: chunked',
      'X: y\rTransfer-Encoding: chunked',
      'X: y\nTransfer-Encoding: chunked',
      'X: y\r\n Transfer-Encoding: chunked',
      'Transfer-Encoding: chun\x01ked',
      'Transfer-Encoding: chunked, gzip',
      'Transfer-Encoding: gzip',
      'Transfer-Encoding: cow\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: ,chunked',
    ].map((fields) => [JSON.stringify(fields), head(fields) + CHUNKED]),
  ),
  'TE of HTTP/1.0': head('Connection: keep-alive\r\nTransfer-Encoding: chunked', 'POST /front HTTP/1.0') + CHUNKED,
  ...Object.fromEntries(
    [
      `+${length}`,
      '-1',
      '0x10',
      `${length},${length}`,
      `0, ${length}`,
      `${length} 0`,
      '1e1',
      '',
      '٣',
      `${length};x=y`,
      '18446744073709551616',
      '4294967296\x00',
      '0\r\n 5',
    ].map((value) => [
      `Content-Length: ${JSON.stringify(value)}`,
      head(`Content-Length: ${Buffer.from(value).toString('latin1')}`) + INNER,
    ]),
  ),
  'CL twice': head(`Content-Length: ${length}\r\nContent-Length: 0`) + INNER,
  'CL twice in another case': head(`Content-Length: 0\r\nCONTENT-LENGTH: ${length}`) + INNER,
  'CL and a space before its colon': head(`Content-Length : ${length}`) + INNER,
  'bare LF ends the head': `POST /front HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\n\n${INNER}`,
  'bare LF in the request line': `POST /front HTTP/1.1\nHost: a\r\nContent-Length: ${length}\r\n\r\n${INNER}`,
  'bare CR ends the head': `POST /front HTTP/1.1\r\nHost: a\r\nX: y\r\r${INNER}`,
  'a request in a header value': `GET /front HTTP/1.1\r\nHost: a\r\nX: y\n\n${INNER}`,
  'HTTP/0.9 in front': `GET /front\r\n${INNER}`,
};

const chunks = (text: string): string => head('Transfer-Encoding: chunked') + text;

const BAD_CHUNKS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    [
      '00000000000000010',
      '10000000000000000',
      'ffffffffffffffff1',
      '-1',
      '0x1',
      '+1',
      '1g',
      '',
      ' 1',
      '1 ',
      '1\t',
      '1 ;x',
      '1\x00',
      '1,1',
      '1.0',
    ].map((size) => [`chunk size ${JSON.stringify(size)}`, chunks(`${size}\r\na\r\n${CHUNKED}`)]),
  ),
  'bare LF after the size': chunks(`1\na\r\n${CHUNKED}`),
  'bare CR after the size': chunks(`1\ra\r\n${CHUNKED}`),
  'bare LF in an extension': chunks(`1;x\ny\r\na\r\n${CHUNKED}`),
  'bare CR in an extension': chunks(`1;x\ry\r\na\r\n${CHUNKED}`),
  'bare LF after the data': chunks(`1\r\na\n${CHUNKED}`),
  'bare CR after the data': chunks(`1\r\na\r${CHUNKED}`),
  'no line end after the data': chunks(`1\r\na${CHUNKED}`),
  'more data than it says': chunks(`1\r\nabc\r\n${CHUNKED}`),
  'bare LF after the last size': chunks(`1\r\na\r\n0\n\n${INNER}`),
  'bare LF after the last chunk': chunks(`1\r\na\r\n0\r\n\n${INNER}`),
  'a bare LF among trailers': chunks(`0\r\nX: y\n\r\n${INNER}`),
  // The parser takes it for another coding, once the head has been handed over.
  'a tab behind chunked': head('Transfer-Encoding: chunked\t') + CHUNKED,
  'a tab before chunked and one behind': head('Transfer-Encoding:\tchunked\t') + CHUNKED,
  'a length among trailers': chunks(`0\r\nContent-Length: ${length}\r\n\r\n${INNER}`),
};

async function unpoisoned(t: Test, { served, wires }: Capture, port: number, name: string): Promise<void> {
  const after = await exchange(t, port, 'GET /after HTTP/1.1\r\nHost: a\r\n\r\n');
  t.match(after, /\[\/after\]$/, `${name}: the next client gets its own answer`);
  t.notOk(served.includes('/smuggled'), `${name}: not served`);
  for (const reader of READERS) {
    const targets = wires.flatMap((wire) => targetsIn(wire, reader));
    t.strictSame([...targets].sort(), [...served].sort(), `${name}: ${JSON.stringify(reader)} sees the same requests`);
  }
}

t.test('the readers tell a smuggled request when there is one', async (t) => {
  const [strict, lenient, byLength] = READERS;
  t.strictSame(targetsIn(REFUSED['CL.TE'], strict), ['/front', '/smuggled']);
  t.strictSame(targetsIn(REFUSED['CL.TE'], byLength), ['/front']);
  t.ok(targetsIn(REFUSED['TE.CL'], byLength).includes('/smuggled'));
  t.strictSame(targetsIn(REFUSED['a request in a header value'], strict), ['/front']);
  t.strictSame(targetsIn(REFUSED['a request in a header value'], lenient), ['/front', '/smuggled']);
  t.strictSame(targetsIn(chunks(`1;x=y\r\na\r\n0\r\n\r\n${INNER}`), strict), ['/front', '/smuggled']);
  t.strictSame(targetsIn(head(`Content-Length: ${length}`) + INNER, lenient), ['/front']);
});

t.test('framing that two readers may take differently is 400, and goes nowhere', async (t) => {
  const capture = await capturing(t);
  const edge = await run(t, edgeTo([capture.port]));
  for (const [name, bytes] of Object.entries({ ...REFUSED, ...BAD_CHUNKS })) {
    const client = await RawClient.open(t, edge.port);
    const answer = await client.send(bytes).closed();
    t.equal(statusOf(answer), 400, `${name}: 400`);
    t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, `${name}: one answer`);
    if (name in REFUSED) t.notOk(capture.served.includes('/front'), `${name}: nothing of it is sent on`);
  }
  await unpoisoned(t, capture, edge.port, 'after all of them');
});

t.test('it is the same when the bytes come one after the other', async (t) => {
  const capture = await capturing(t);
  const edge = await run(t, edgeTo([capture.port]));
  const cases = Object.entries({ ...REFUSED, ...BAD_CHUNKS }).filter((_, index) => index % 4 === 0);
  await Promise.all(
    cases.map(async ([name, bytes]) => {
      const client = await RawClient.open(t, edge.port);
      client.socket.setNoDelay(true);
      for (const byte of bytes) {
        if (client.ended !== null || client.received !== '') break;
        client.send(byte);
        await new Promise(setImmediate);
      }
      const answer = await client.closed();
      t.equal(statusOf(answer), 400, `${name}: 400`);
      t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, `${name}: one answer`);
    }),
  );
  await unpoisoned(t, capture, edge.port, 'after all of them');
});

t.test('a body that looks like a request stays a body', async (t) => {
  const capture = await capturing(t);
  const edge = await run(t, edgeTo([capture.port]));
  const chunk = (extension: string): string => `${length.toString(16)}${extension}\r\n${INNER}\r\n0\r\n\r\n`;
  const cases: Readonly<Record<string, string>> = {
    'by length': head(`Content-Length: ${length}`) + INNER,
    'by length with zeros in front': head(`Content-Length: 000${length}`) + INNER,
    'of a GET': head(`Content-Length: ${length}`, 'GET /front HTTP/1.1') + INNER,
    'of a GET in chunks': head('Transfer-Encoding: chunked', 'GET /front HTTP/1.1') + chunk(''),
    'of an OPTIONS': head(`Content-Length: ${length}`, 'OPTIONS /front HTTP/1.1') + INNER,
    'of a DELETE': head(`Content-Length: ${length}`, 'DELETE /front HTTP/1.1') + INNER,
    'in chunks': chunks(chunk('')),
    'TE in capitals': head('TRANSFER-ENCODING: CHUNKED') + chunk(''),
    'chunk extensions': chunks(chunk(';x=y')),
    'a quoted chunk extension': chunks(chunk(';x="0"')),
    'trailers that look like a request': chunks(`1\r\na\r\n0\r\nGET: /smuggled\r\n\r\n`),
    'with an offer to upgrade': head(`Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${length}`) + INNER,
    'length named by Connection': head(`Connection: content-length\r\nContent-Length: ${length}`) + INNER,
    'coding named by Connection': head('Connection: transfer-encoding\r\nTransfer-Encoding: chunked') + chunk(''),
    'underscores are another name':
      head(`Content_Length: 5\r\nTransfer_Encoding: chunked\r\nContent-Length: ${length}`) + INNER,
  };
  for (const [name, bytes] of Object.entries(cases)) {
    const client = await RawClient.open(t, edge.port);
    const answer = await client.send(bytes).until('[/front]');
    t.equal(statusOf(answer), 200, name);
    t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, `${name}: one answer`);
    client.socket.destroy();
  }
  await unpoisoned(t, capture, edge.port, 'after all of them');
});

t.test('an offer to upgrade that the service does not take opens nothing', async (t) => {
  const capture = await capturing(t);
  const routes = [
    { name: 'all', to: 'app' },
    { name: 'secret', match: [{ path: '/smuggled' }], respond: { status: 403 } },
  ];
  const edge = await run(t, edgeTo([capture.port], { routes } as never));
  for (const upgrade of ['websocket', 'h2c', 'HTTP/2.0', 'tls/1.2', 'anything']) {
    for (const version of ['', 'Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: x\r\n']) {
      const client = await RawClient.open(t, edge.port);
      client.send(
        `GET /front HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: ${upgrade}\r\n${version}\r\n${INNER}`,
      );
      const answer = await client.closed();
      t.equal(statusOf(answer), 200, upgrade);
      t.notMatch(answer, '[/smuggled]', upgrade);
    }
  }
  await unpoisoned(t, capture, edge.port, 'after all of them');
});

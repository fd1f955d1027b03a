// The parser alone: what it accepts, what it refuses, and that the boundaries of reads change neither.
import { createRequire } from 'node:module';
import fc from 'fast-check';
import t from 'tap';
import { type Expectation, ResponseParser, type ResponseSink } from '../../../src/upstream/http1/response-parser.ts';

const MAX_HEAD_BYTES = 64 * 1024;

/** All that one response came to. */
interface Outcome {
  interims: string[];
  status: number;
  message: string;
  headers: string[];
  body: string;
  trailers: string[] | null;
  complete: boolean;
  surplus: boolean;
  persistent: boolean;
  upgradeRest: string | null;
  /** Code of the error. */
  error: string | null;
}

class RecordingSink implements ResponseSink {
  readonly parser = new ResponseParser(this, MAX_HEAD_BYTES);
  readonly outcome: Outcome = {
    interims: [],
    status: 0,
    message: '',
    headers: [],
    body: '',
    trailers: null,
    complete: false,
    surplus: false,
    persistent: false,
    upgradeRest: null,
    error: null,
  };

  onInterim(): boolean {
    this.outcome.interims.push(`${this.parser.head.statusCode} ${this.parser.head.rawHeaders.join(' ')}`);
    return true;
  }

  onHead(): boolean {
    const { statusCode, statusMessage, rawHeaders, persistent } = this.parser.head;
    Object.assign(this.outcome, { status: statusCode, message: statusMessage, headers: rawHeaders, persistent });
    return true;
  }

  onData(chunk: Buffer): boolean {
    this.outcome.body += chunk.toString('latin1');
    return true;
  }

  onEnd(rawTrailers: string[] | null, surplus: boolean): void {
    Object.assign(this.outcome, { trailers: rawTrailers, surplus, complete: true });
  }

  onUpgrade(rest: Buffer): void {
    this.outcome.status = this.parser.head.statusCode;
    this.outcome.upgradeRest = rest.toString('latin1');
  }
}

/** Feeds the pieces through one buffer that is overwritten after each, as a socket does. */
function parse(
  pieces: readonly string[],
  { ends = false, method = 'GET', upgrade = null as string | null } = {},
): Outcome {
  const sink = new RecordingSink();
  const expectation: Expectation = { method, upgrade };
  sink.parser.expect(expectation);
  const readBuffer = Buffer.alloc(Math.max(16, ...pieces.map((piece) => piece.length)) + 8, '\r\n');
  try {
    for (const piece of pieces) {
      if (sink.outcome.complete) sink.outcome.surplus ||= piece !== '';
      else sink.parser.execute(readBuffer, 0, readBuffer.write(piece, 'latin1'), false);
      readBuffer.fill('\r\n');
    }
    if (ends) sink.parser.finish();
  } catch (error) {
    sink.outcome.error = (error as { code: string }).code;
  }
  return sink.outcome;
}

const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;

const MALFORMED: Record<string, string> = {
  'another protocol': 'SSH-2.0-OpenSSH_9.6\r\n',
  'another protocol, before its line ends': 'SSH-2.0',
  'HTTP/2': 'HTTP/2.0 200 OK\r\n\r\n',
  'HTTP/1.2': 'HTTP/1.2 200 OK\r\n\r\n',
  'HTTP/1.10': 'HTTP/1.10 200 OK\r\n\r\n',
  'lower-case http': 'http/1.1 200 OK\r\n\r\n',
  'an empty line ahead': `\r\n${OK}\r\n`,
  'two spaces after the version': 'HTTP/1.1  200 OK\r\n\r\n',
  'a status of two digits': 'HTTP/1.1 20 OK\r\n\r\n',
  'a status of four digits': 'HTTP/1.1 2000 OK\r\n\r\n',
  'a status below 100': 'HTTP/1.1 099 OK\r\n\r\n',
  'a status with letters': 'HTTP/1.1 2x0 OK\r\n\r\n',
  'a control character in the reason': 'HTTP/1.1 200 O\x01K\r\n\r\n',
  'a status line ended by LF': 'HTTP/1.1 200 OK\nA: b\r\n\r\n',
  'a field line ended by LF': `${OK}A: b\nC: d\r\n\r\n`,
  'a head ended by LF LF': 'HTTP/1.1 200 OK\n\n',
  'a head ended by CR LF LF': `${OK}\n`,
  'CR inside a value': `${OK}A: b\rc\r\n\r\n`,
  'NUL inside a value': `${OK}A: b\0c\r\n\r\n`,
  'DEL inside a value': `${OK}A: b\x7fc\r\n\r\n`,
  'a space before the colon': `${OK}A : b\r\n\r\n`,
  'a space inside a name': `${OK}A B: c\r\n\r\n`,
  'a name outside ASCII': `${OK}\xe4: c\r\n\r\n`,
  'an empty name': `${OK}: b\r\n\r\n`,
  'a line without colon': `${OK}A\r\n\r\n`,
  'a folded line': `${OK}A: b\r\n c\r\n\r\n`,
  'a folded first line': `${OK} A: b\r\n\r\n`,
  'Content-Length beside Transfer-Encoding': `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  'Transfer-Encoding beside Content-Length': `${OK}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`,
  'two Content-Length': `${OK}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc`,
  'two equal Content-Length': `${OK}Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc`,
  'a list in Content-Length': `${OK}Content-Length: 3, 3\r\n\r\nabc`,
  'a negative Content-Length': `${OK}Content-Length: -1\r\n\r\n`,
  'a signed Content-Length': `${OK}Content-Length: +3\r\n\r\nabc`,
  'an empty Content-Length': `${OK}Content-Length:\r\n\r\n`,
  'a hexadecimal Content-Length': `${OK}Content-Length: 0x3\r\n\r\nabc`,
  'a Content-Length past 2^53': `${OK}Content-Length: 9007199254740993\r\n\r\n`,
  'a Transfer-Encoding that is not understood': `${OK}Transfer-Encoding: gzip\r\n\r\n`,
  'a Transfer-Encoding before chunked': `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`,
  'chunked twice': `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
  'a Transfer-Encoding that only contains chunked': `${OK}Transfer-Encoding: xchunked\r\n\r\n`,
  'an empty Transfer-Encoding': `${OK}Transfer-Encoding:\r\n\r\n`,
  'Transfer-Encoding in HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  '101 that nobody asked for': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n',
  'a chunk size without digits': `${CHUNKED}\r\n`,
  'a chunk size with a sign': `${CHUNKED}+3\r\nabc\r\n`,
  'a chunk size with 0x': `${CHUNKED}0x3\r\nabc\r\n`,
  'a chunk size after a space': `${CHUNKED} 3\r\nabc\r\n`,
  'a chunk size before a space': `${CHUNKED}3 \r\nabc\r\n`,
  'a chunk size with too many digits': `${CHUNKED}00000000000003\r\nabc\r\n`,
  'a chunk size ended by LF': `${CHUNKED}3\nabc\r\n`,
  'a chunk size ended by CR alone': `${CHUNKED}3\rabc\r\n`,
  'a chunk longer than its size': `${CHUNKED}3\r\nabcd\r\n`,
  'a chunk ended by LF': `${CHUNKED}3\r\nabc\n0\r\n\r\n`,
  'a chunk ended by CR CR': `${CHUNKED}3\r\nabc\r\r0\r\n\r\n`,
  'LF in a chunk extension': `${CHUNKED}3;a=b\nabc\r\n`,
  'NUL in a chunk extension': `${CHUNKED}3;a=\0\r\nabc\r\n`,
  'a trailer ended by LF': `${CHUNKED}0\r\nA: b\n\r\n`,
  'a folded trailer': `${CHUNKED}0\r\nA: b\r\n c\r\n\r\n`,
  'a trailer without colon': `${CHUNKED}0\r\nA\r\n\r\n`,
  'a chunk extension without name': `${CHUNKED}3;\r\nabc\r\n0\r\n\r\n`,
  'a chunk extension without value': `${CHUNKED}3;a=\r\nabc\r\n0\r\n\r\n`,
  'a chunk extension after a quoted value': `${CHUNKED}3;a="b"c\r\nabc\r\n0\r\n\r\n`,
  'a chunk extension with a space': `${CHUNKED}3; a\r\nabc\r\n0\r\n\r\n`,
  'a tab behind chunked': `${OK}Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n`,
  'an interim response of HTTP/1.0': `HTTP/1.0 103 X\r\n\r\n${OK}Content-Length: 0\r\n\r\n`,
  'an interim response with close': `HTTP/1.1 100 X\r\nConnection: close\r\n\r\n${OK}Content-Length: 0\r\n\r\n`,
  'Content-Length as a trailer': `${CHUNKED}0\r\nContent-Length: 0\r\n\r\n`,
  'Transfer-Encoding as a trailer': `${CHUNKED}0\r\nTransfer-Encoding: chunked\r\n\r\n`,
  'chunk extensions without end': `${CHUNKED}3;${'a'.repeat(17 * 1024)}`,
  'chunk extensions spread over chunks without end': CHUNKED + `1;${'a'.repeat(99)}\r\nb\r\n`.repeat(200),
};

t.test('refuses what is malformed, whole or byte by byte', async (t) => {
  for (const [what, response] of Object.entries(MALFORMED)) {
    for (const pieces of [[response], [...response]]) {
      const outcome = parse(pieces);
      t.equal(outcome.error, 'SLV_UPSTREAM_INVALID', `${what} in ${pieces.length} pieces`);
      t.notOk(outcome.complete);
    }
  }
});

t.test('refuses a head or trailers past their bound with a code of its own', async (t) => {
  const tooLarge: Record<string, string> = {
    'one long line': `${OK}A: ${'b'.repeat(MAX_HEAD_BYTES)}\r\n\r\n`,
    'a head that never ends': `${OK}A: ${'b'.repeat(MAX_HEAD_BYTES)}`,
    'too many lines': `${OK}${'A: b\r\n'.repeat(1001)}\r\n`,
    'trailers that never end': `${CHUNKED}0\r\n${'A: b\r\n'.repeat(11_000)}`,
  };
  for (const [what, response] of Object.entries(tooLarge)) {
    t.equal(parse([response]).error, 'SLV_UPSTREAM_HEADERS_TOO_LARGE', what);
    t.equal(
      parse(response.match(/[\s\S]{1,1000}/g) as string[]).error,
      'SLV_UPSTREAM_HEADERS_TOO_LARGE',
      `${what}, in pieces`,
    );
  }
  t.equal(parse([`${OK}${'A: b\r\n'.repeat(999)}Content-Length: 0\r\n\r\n`]).complete, true);
});

interface Valid {
  readonly response: string;
  readonly method?: string;
  readonly upgrade?: string;
  /** It is ended by the end of the connection. */
  readonly ends?: boolean;
  readonly expected: Partial<Outcome>;
}

const VALID: Record<string, Valid> = {
  'a body by length': {
    response: `${OK}Content-Length: 5\r\nX-A:  b \t\r\n\r\nhello`,
    expected: {
      status: 200,
      message: 'OK',
      headers: ['Content-Length', '5', 'X-A', 'b'],
      body: 'hello',
      persistent: true,
    },
  },
  'a body by chunks': {
    response: `${CHUNKED}3\r\nabc\r\n00a;x="y \\"z";q=1;r\r\n0123456789\r\n0\r\n\r\n`,
    expected: { body: 'abc0123456789', trailers: null, persistent: true },
  },
  'chunked in capitals': {
    response: `${OK}TRANSFER-ENCODING: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n`,
    expected: { body: '0123456789' },
  },
  'trailers, without the names that must not be one': {
    response: `${CHUNKED}1\r\na\r\n0\r\nGrpc-Status: 0\r\nSet-Cookie: a=b\r\nX-B: \xe9\r\n\r\n`,
    expected: { body: 'a', trailers: ['Grpc-Status', '0', 'X-B', '\xe9'] },
  },
  'a body until the end': {
    response: `${OK}\r\nall of it\r\n\r\n`,
    ends: true,
    expected: { body: 'all of it\r\n\r\n', persistent: false },
  },
  'an empty body until the end': { response: `${OK}\r\n`, ends: true, expected: { body: '', persistent: false } },
  'a status line without reason': {
    response: 'HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n',
    expected: { status: 200, message: '' },
  },
  'a status line without the space before it': {
    response: 'HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n',
    expected: { status: 299, message: '' },
  },
  'a status nobody registered': { response: 'HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n', expected: { status: 999 } },
  'HTTP/1.0 closes': {
    response: 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na',
    expected: { body: 'a', persistent: false },
  },
  'HTTP/1.0 with keep-alive stays': {
    response: 'HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na',
    expected: { body: 'a', persistent: true },
  },
  'Connection: close in a list': {
    response: `${OK}Connection: x-a , Close\r\nContent-Length: 0\r\n\r\n`,
    expected: { persistent: false },
  },
  'close outweighs keep-alive': {
    response: `${OK}Connection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n`,
    expected: { persistent: false },
  },
  'an option that only looks like close': {
    response: `${OK}Connection: closed\r\nContent-Length: 0\r\n\r\n`,
    expected: { persistent: true },
  },
  'a header named __proto__': {
    response: `${OK}__proto__: a\r\nContent-Length: 0\r\n\r\n`,
    expected: { headers: ['__proto__', 'a', 'Content-Length', '0'] },
  },
  'HEAD has no body whatever it announces': {
    response: `${OK}Content-Length: 5\r\n\r\n`,
    method: 'HEAD',
    expected: { body: '' },
  },
  '204 has no body': { response: 'HTTP/1.1 204 No Content\r\n\r\n', expected: { status: 204, persistent: true } },
  '304 has no body whatever it announces': {
    response: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n',
    expected: { status: 304, body: '' },
  },
  'interim responses ahead': {
    response: `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${OK}Content-Length: 1\r\n\r\na`,
    expected: { interims: ['100 ', '103 Link </a>'], status: 200, body: 'a' },
  },
};

t.test('reads the same out of every response wherever it is cut', async (t) => {
  for (const [what, { response, method, upgrade, ends, expected }] of Object.entries(VALID)) {
    const options = { method, upgrade, ends };
    const whole = parse([response], options);
    t.match(whole, { ...expected, complete: true, surplus: false, error: null }, what);
    for (let cut = 1; cut < response.length; cut++) {
      const parts = parse([response.slice(0, cut), response.slice(cut)], options);
      if (JSON.stringify(parts) !== JSON.stringify(whole)) t.same(parts, whole, `${what}, cut at ${cut}`);
    }
    t.same(parse([...response], options), whole, `${what}, byte by byte`);
  }
});

t.test('never takes what follows a response for part of it', async (t) => {
  for (const [what, { response, method, upgrade, ends }] of Object.entries(VALID)) {
    if (ends) continue;
    const alone = parse([response], { method, upgrade });
    const followed = parse([`${response}${OK}\r\n`], { method, upgrade });
    t.same(followed, { ...alone, surplus: true }, what);
  }
});

t.test('hands over an upgrade that was asked for, with every byte behind its head', async (t) => {
  const response = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c, WebSocket\r\n\r\n\x81\x00';
  t.match(parse([response], { upgrade: 'websocket' }), { status: 101, upgradeRest: '\x81\x00', error: null });
  t.equal(parse([response], { upgrade: 'web' }).error, 'SLV_UPSTREAM_INVALID', 'another protocol than asked for');
  t.equal(parse(['HTTP/1.1 101 X\r\n\r\n'], { upgrade: 'web' }).error, 'SLV_UPSTREAM_INVALID', 'no protocol named');
  t.match(parse([`${OK}\r\nraw`], { method: 'CONNECT' }), { status: 200, upgradeRest: 'raw', error: null });
  t.match(parse(['HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno'], { method: 'CONNECT' }), {
    body: 'no',
    upgradeRest: null,
  });
  t.match(parse([`${OK}Content-Length: 2\r\n\r\nno`], { upgrade: 'websocket' }), { body: 'no', upgradeRest: null });
});

t.test('a response cut short is never complete', async (t) => {
  for (const [what, { response, method, upgrade, ends }] of Object.entries(VALID)) {
    if (ends) continue;
    for (let cut = 0; cut < response.length; cut++) {
      const outcome = parse([response.slice(0, cut)], { method, upgrade, ends: true });
      if (outcome.complete) t.fail(`${what}, cut at ${cut}`);
    }
    t.pass(what);
  }
});

const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}$/).map((name) => `x-${name}`);
const value = fc.stringMatching(/^([!-~\x80-\xff]([ \t!-~\x80-\xff]{0,20}[!-~\x80-\xff])?)?$/);
const lines = fc.array(fc.tuple(token, value), { maxLength: 6 });
const text = (pairs: [string, string][]) => pairs.map(([name, content]) => `${name}: ${content}\r\n`).join('');
const octets = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

/** A valid response and what it must come to. */
const generated = fc
  .record({
    status: fc.constantFrom(200, 201, 404, 500),
    lines,
    chunks: fc.array(octets),
    trailers: lines,
    chunked: fc.boolean(),
  })
  .map(({ status, lines, chunks, trailers, chunked }) => {
    const body = chunks.join('');
    const head = `HTTP/1.1 ${status} x\r\n${text(lines)}`;
    const pieces = chunks
      .filter((chunk) => chunk !== '')
      .map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`);
    const response = chunked
      ? `${head}transfer-encoding: chunked\r\n\r\n${pieces.join('')}0\r\n${text(trailers)}\r\n`
      : `${head}content-length: ${body.length}\r\n\r\n${body}`;
    return { response, status, body, trailers: chunked && trailers.length > 0 ? trailers.flat() : null };
  });

t.test('any valid response reads the same however it is chopped', async () => {
  fc.assert(
    fc.property(generated, fc.array(fc.nat({ max: 40 }), { minLength: 1 }), ({ response, ...expected }, sizes) => {
      const pieces: string[] = [];
      for (let at = 0, i = 0; at < response.length; i++) {
        const size = sizes[i % sizes.length] + 1;
        pieces.push(response.slice(at, at + size));
        at += size;
      }
      const outcome = parse(pieces);
      if (outcome.error !== null || !outcome.complete || outcome.surplus) return false;
      return (
        JSON.stringify({ ...expected, error: null }) ===
        JSON.stringify({
          status: outcome.status,
          body: outcome.body,
          trailers: outcome.trailers,
          error: outcome.error,
        })
      );
    }),
    { numRuns: 500 },
  );
});

/** The parser of Node's own client (llhttp), as far as the comparison needs it. */
interface Llhttp {
  initialize(type: number, resource: object, maxHeaderSize: number, lenient: number): void;
  execute(octets: Buffer): number | Error;
  [callback: number]: ((...facts: never[]) => unknown) | undefined;
}
const { HTTPParser } = createRequire(import.meta.url)('_http_common') as {
  HTTPParser: (new () => Llhttp) & Record<'RESPONSE' | 'kOnHeadersComplete' | 'kOnBody' | 'kOnMessageComplete', number>;
};

function parseByNode(response: string): { status: number; body: string; complete: boolean; keepAlive: boolean } {
  const outcome = { status: 0, body: '', complete: false, keepAlive: false };
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.RESPONSE, {}, 0, 0);
  parser[HTTPParser.kOnHeadersComplete] = (...facts: unknown[]) => {
    outcome.status = facts[5] as number;
    outcome.keepAlive = facts[8] as boolean;
    return 0;
  };
  parser[HTTPParser.kOnBody] = (chunk: Buffer) => {
    outcome.body += chunk.toString('latin1');
  };
  parser[HTTPParser.kOnMessageComplete] = () => {
    if (outcome.status >= 200) outcome.complete = true;
  };
  if (typeof parser.execute(Buffer.from(response, 'latin1')) !== 'number') outcome.complete = false;
  return outcome;
}

const SEEDS = Object.values(VALID)
  .filter(({ method, ends }) => method === undefined && !ends)
  .map(({ response }) => response)
  .concat(Object.values(MALFORMED).filter((response) => response.length < 200));
const PATCHES = [
  '\r',
  '\n',
  '\r\n',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  '1',
  'a',
  '-',
  '+',
  '\0',
  '\x7f',
  '\xff',
  '\r\n ',
  'chunked',
  'close',
  'Content-Length: 1\r\n',
  'Transfer-Encoding: chunked\r\n',
  '\r\n\r\n',
];

/** Puts a patch in, or over, or takes something out; up to four times. */
const mutated = fc
  .tuple(
    fc.constantFrom(...SEEDS),
    fc.array(fc.tuple(fc.nat(), fc.constantFrom(...PATCHES), fc.nat({ max: 3 }), fc.boolean()), {
      minLength: 1,
      maxLength: 4,
    }),
  )
  .map(([seed, changes]) => {
    let response = seed;
    for (const [place, patch, removed, insert] of changes) {
      const at = place % (response.length + 1);
      response = response.slice(0, at) + (insert ? patch : '') + response.slice(at + removed);
    }
    return response;
  });

t.test('never takes for complete and reusable what the parser of Node refuses', async (t) => {
  let compared = 0;
  fc.assert(
    fc.property(mutated, (response) => {
      const ours = parse([response]);
      if (!ours.complete || ours.surplus || !ours.persistent) return;
      compared += 1;
      const nodes = parseByNode(response);
      const facts = { status: ours.status, body: ours.body, complete: true, keepAlive: true };
      if (JSON.stringify(nodes) !== JSON.stringify(facts)) {
        throw new Error(`${JSON.stringify(response)}\nours ${JSON.stringify(facts)}\nNode ${JSON.stringify(nodes)}`);
      }
    }),
    { numRuns: 60_000 },
  );
  t.ok(compared > 500, `${compared} mutants were accepted by both`);
});

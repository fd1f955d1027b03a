// A line is put together of pieces; it has to be what JSON.stringify makes of the whole, whatever stands in it.

import fc from 'fast-check';
import type { FastifyRequest } from 'fastify';
import t from 'tap';
import { accessLine, LINE_FIELDS, type LineSettings, writtenFields } from '../../src/plugins/access-line.ts';

const settings: LineSettings = { fields: writtenFields({}), headers: ['x-a'], redact: new Set(), query: 'full' };

/** Quotes, controls, lone surrogates, separators of lines, what lies beyond latin1. */
const hostile = fc.oneof(
  fc.string({
    unit: fc.constantFrom('"', '\\', '\n', '\u0000', '\u001f', '\ud800', '\udc00', '\u2028', '\u00e9', '\u4e2d', 'a'),
  }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.stringMatching(/^[\w.-]{1,40}$/),
);
const maybe = fc.option(hostile);

const exchanges = fc.record({
  id: hostile,
  traceId: maybe,
  role: hostile,
  owner: hostile,
  listener: hostile,
  clientAddress: hostile,
  peer: fc.option(fc.record({ id: hostile })),
  scheme: hostile,
  host: hostile,
  port: fc.option(fc.nat(65_535).map(String)),
  path: hostile,
  query: hostile,
  upgrade: maybe,
  reason: maybe,
  because: maybe,
  cache: maybe,
  decidedBy: maybe,
  verdict: maybe,
  authorization: fc.option(fc.record({ verdict: hostile, policy: maybe })),
  route: fc.option(fc.record({ name: hostile })),
  service: maybe,
  subset: maybe,
  endpoint: maybe,
  attempts: fc.array(
    fc.record({ endpoint: hostile, outcome: hostile, status: fc.nat(599), durationMs: fc.constant(1.5) }),
    {
      maxLength: 3,
    },
  ),
  bytesIn: fc.nat(),
  bytesOut: fc.nat(),
});

const fixed = fc.dictionary(
  fc.oneof(hostile, fc.nat(9).map(String)).filter((name) => !LINE_FIELDS.some((field) => field === name)),
  fc.oneof(hostile, fc.constant('"level":0')),
  { maxKeys: 3 },
);

type Drawn = typeof exchanges extends fc.Arbitrary<infer Value> ? Value : never;

/** All of its fields in one object, in the order in which a line has them. */
function whole(exchange: Drawn, userAgent: string, header: string, time: unknown) {
  const { attempts } = exchange;
  const tried = attempts.length > 1 || (attempts.length === 1 && attempts[0].outcome !== 'ok');
  return {
    level: 30,
    time,
    msg: 'request',
    requestId: exchange.id,
    traceId: exchange.traceId ?? undefined,
    role: exchange.role,
    owner: exchange.owner,
    listener: exchange.listener,
    clientAddress: exchange.clientAddress,
    peer: exchange.peer?.id,
    method: 'GET',
    scheme: exchange.scheme,
    host: exchange.host,
    port: exchange.verdict === null || exchange.port === null ? undefined : Number(exchange.port),
    path: exchange.path,
    query: exchange.query === '' ? undefined : exchange.query,
    protocol: 'HTTP/1.1',
    userAgent,
    upgrade: exchange.upgrade ?? undefined,
    status: 200,
    reason: exchange.reason ?? undefined,
    because: exchange.because ?? undefined,
    cache: exchange.cache ?? undefined,
    decidedBy: exchange.decidedBy ?? undefined,
    verdict: exchange.verdict ?? exchange.authorization?.verdict,
    policy: exchange.authorization?.policy ?? undefined,
    route: exchange.route?.name,
    service: exchange.service ?? undefined,
    subset: exchange.subset ?? undefined,
    endpoint: exchange.endpoint ?? undefined,
    attempts: tried ? attempts.map((attempt) => ({ ...attempt, status: attempt.status || undefined })) : undefined,
    durationMs: 2.346,
    upstreamMs: attempts.length === 0 ? undefined : attempts.length * 1.5,
    bytesIn: exchange.bytesIn,
    bytesOut: exchange.bytesOut,
    headers: { 'x-a': header },
  };
}

t.test('a line is byte for byte what JSON.stringify makes of all its fields', async () => {
  fc.assert(
    fc.property(exchanges, hostile, hostile, fixed, (exchange, userAgent, header, fields) => {
      const request = {
        selvedge: exchange,
        method: 'GET',
        raw: { httpVersion: '1.1' },
        headers: { 'user-agent': userAgent, 'x-a': header },
      } as unknown as FastifyRequest;
      const line = accessLine(request, 200, 2.3456, { ...settings, fields: writtenFields(fields) });
      const { time } = JSON.parse(line);
      return line === `${JSON.stringify({ ...whole(exchange, userAgent, header, time), ...fields })}\n`;
    }),
    { numRuns: 2_000, seed: 20_261_126 },
  );
});

t.test('the time is that of the clock, through seconds and milliseconds', async (t) => {
  const now = Date.now;
  t.teardown(() => {
    Date.now = now;
  });
  const request = {
    selvedge: {
      id: 'a',
      attempts: [],
      query: '',
      path: '/',
      host: '',
      peer: null,
      port: null,
      upgrade: null,
      route: null,
    },
    method: 'GET',
    raw: { httpVersion: '1.1' },
    headers: {},
  } as unknown as FastifyRequest;
  for (const at of [0, 7, 999, 1_000, 1_042, 1_042, 1_785_000_000_120, 1_785_000_001_005, 1_784_999_999_999]) {
    Date.now = () => at;
    t.equal(JSON.parse(accessLine(request, 200, 1, { ...settings, headers: [] })).time, new Date(at).toISOString());
  }
});

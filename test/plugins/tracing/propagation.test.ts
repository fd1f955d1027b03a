// Which trace a request goes on in, and what its headers say of it: W3C Trace Context and B3, on good and on arbitrary input.
import fc from 'fast-check';
import t from 'tap';
import { b3 } from '../../../src/plugins/tracing/b3.ts';
import type { Headers } from '../../../src/plugins/tracing/context.ts';
import { newSpanId, newTraceId } from '../../../src/plugins/tracing/ids.ts';
import { decide, FORMATS, Propagation, type Sampling } from '../../../src/plugins/tracing/propagation.ts';
import { formatTraceparent, parseTraceparent } from '../../../src/plugins/tracing/w3c.ts';
import { seededRandom } from '../../support/fake-upstream.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const NEVER: Sampling = { share: 0, trustParent: true, random: () => 0.5 };
const ALWAYS: Sampling = { share: 1, trustParent: true, random: () => 0.5 };

const hex = (digits: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: digits, maxLength: digits })
    .map((all) => all.join(''))
    .filter((id) => !/^0+$/.test(id));

t.test('a traceparent that was written is read as it was meant', async () => {
  fc.assert(
    fc.property(hex(32), hex(16), fc.boolean(), (traceId, spanId, sampled) => {
      const parent = parseTraceparent(formatTraceparent(traceId, spanId, sampled));
      return parent?.traceId === traceId && parent.spanId === spanId && parent.sampled === sampled;
    }),
  );
});

t.test('a malformed traceparent is none', async (t) => {
  const good = `00-${TRACE}-${SPAN}-01`;
  t.same(parseTraceparent(good), { traceId: TRACE, spanId: SPAN, sampled: true });
  const bad = {
    'another character': `${good}0`,
    'something behind version 00': `${good}-x`,
    'a hyphen behind version 00': `${good}-`,
    'version ff': good.replace(/^00/, 'ff'),
    'a version of one digit': good.slice(1),
    'upper case': good.toUpperCase(),
    'a trace id of zeros': good.replace(TRACE, '0'.repeat(32)),
    'a parent id of zeros': good.replace(SPAN, '0'.repeat(16)),
    'a short trace id': good.replace(TRACE, TRACE.slice(1)),
    'a long parent id': good.replace(SPAN, `${SPAN}0`),
    'no flags': good.slice(0, -3),
    'flags of one digit': good.slice(0, -1),
    'not hexadecimal': good.replace('4b', '4g'),
    'two of them': `${good}, ${good}`,
    'a space in front': ` ${good}`,
    nothing: '',
  };
  for (const [what, text] of Object.entries(bad)) t.equal(parseTraceparent(text), null, what);
});

t.test('a later version is read as far as it is known, and written on as version 00', async (t) => {
  for (const text of [`cc-${TRACE}-${SPAN}-01`, `cc-${TRACE}-${SPAN}-01-what-comes`, `01-${TRACE}-${SPAN}-ff-`])
    t.same(parseTraceparent(text), { traceId: TRACE, spanId: SPAN, sampled: true }, text);
  t.equal(parseTraceparent(`cc-${TRACE}-${SPAN}-01.what`), null);
  const headers: Headers = { traceparent: `cc-${TRACE}-${SPAN}-01-what-comes` };
  const { spanId } = new Propagation(['w3c']).begin(headers, ALWAYS);
  t.equal(headers.traceparent, `00-${TRACE}-${spanId}-01`);
});

t.test('flags that are not known yet do not pass for the one that is', async (t) => {
  t.equal(parseTraceparent(`00-${TRACE}-${SPAN}-02`)?.sampled, false);
  t.equal(parseTraceparent(`00-${TRACE}-${SPAN}-03`)?.sampled, true);
});

t.test('tracestate passes byte for byte with its trace, and goes where that is not gone on with', async (t) => {
  const w3c = new Propagation(['w3c']);
  const traceparent = `00-${TRACE}-${SPAN}-01`;
  const state = (tracestate: string, parent = traceparent) => {
    const headers: Headers = { traceparent: parent, tracestate };
    t.equal(w3c.begin(headers, ALWAYS).traceState, headers.tracestate ?? null);
    return headers.tracestate;
  };
  const members = (count: number) => Array.from({ length: count }, (_, index) => `k${index}=v`).join(',');
  t.equal(state('rojo=00f067aa0ba902b7,  congo=t61rcWkgMzE ,'), 'rojo=00f067aa0ba902b7,  congo=t61rcWkgMzE ,');
  t.equal(state(members(32)), members(32));
  t.equal(state(members(33)), undefined);
  t.equal(state(`a=${'x'.repeat(510)}`), `a=${'x'.repeat(510)}`);
  t.equal(state(`a=${'x'.repeat(511)}`), undefined);
  t.equal(state('a=b', 'nonsense'), undefined, 'the traceparent is invalid');
  const alone: Headers = { tracestate: 'a=b' };
  w3c.begin(alone, ALWAYS);
  t.notOk('tracestate' in alone, 'there is no traceparent');
  const other: Headers = { traceparent, tracestate: 'a=b', b3: `${'1'.repeat(32)}-${SPAN}-1` };
  new Propagation(['b3', 'w3c']).begin(other, ALWAYS);
  t.notOk('tracestate' in other, 'the request goes on in the trace of its b3');
  t.match(other.traceparent, '1'.repeat(32));
});

t.test('B3 is read in every form that tracers write', async (t) => {
  const { read } = b3({ single: true, multi: false });
  const multi = { 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN };
  const ids = { traceId: TRACE, spanId: SPAN };
  const short = { traceId: `${'0'.repeat(16)}a3ce929d0e0e4736`, spanId: SPAN };
  const undecided = { traceId: null, spanId: null };
  const cases: [Headers, object | null][] = [
    [{ b3: `${TRACE}-${SPAN}-1` }, { ...ids, sampled: true }],
    [{ b3: `${TRACE}-${SPAN}-0` }, { ...ids, sampled: false }],
    [{ b3: `${TRACE}-${SPAN}-d-05e3ac9a4f6e3b90` }, { ...ids, sampled: true }],
    [{ b3: `${TRACE}-${SPAN}` }, { ...ids, sampled: null }],
    [{ b3: `${TRACE.toUpperCase()}-${SPAN}-1` }, { ...ids, sampled: true }],
    [{ b3: `a3ce929d0e0e4736-${SPAN}-1` }, { ...short, sampled: true }],
    [{ b3: '0' }, { ...undecided, sampled: false }],
    [{ b3: 'd' }, { ...undecided, sampled: true }],
    [{ b3: '2' }, null],
    [{ b3: `${'0'.repeat(32)}-${SPAN}-1` }, null],
    [{ b3: `${TRACE}-${SPAN}-1-` }, null],
    [multi, { ...ids, sampled: null }],
    [
      { ...multi, 'x-b3-sampled': '1' },
      { ...ids, sampled: true },
    ],
    [
      { ...multi, 'x-b3-sampled': 'false' },
      { ...ids, sampled: false },
    ],
    [
      { ...multi, 'x-b3-sampled': '0', 'x-b3-flags': '1' },
      { ...ids, sampled: true },
    ],
    [
      { ...multi, 'x-b3-traceid': 'a3ce929d0e0e4736' },
      { ...short, sampled: null },
    ],
    [{ 'x-b3-sampled': '0' }, { ...undecided, sampled: false }],
    [{ 'x-b3-traceid': TRACE }, null],
    [{ ...multi, 'x-b3-spanid': '0'.repeat(16) }, null],
    [
      { ...multi, b3: `${'1'.repeat(32)}-${SPAN}-0` },
      { ...ids, traceId: '1'.repeat(32), sampled: false },
    ],
    [
      { ...multi, b3: 'nonsense' },
      { ...ids, sampled: null },
    ],
    [{}, null],
  ];
  for (const [headers, parent] of cases) t.same(read(headers), parent, JSON.stringify(headers));
});

t.test('what B3 writes it reads, and nothing of another form stays to contradict it', async (t) => {
  fc.assert(
    fc.property(hex(32), hex(16), fc.boolean(), fc.boolean(), (traceId, spanId, sampled, single) => {
      const format = b3({ single, multi: !single });
      const headers: Headers = {
        b3: '0',
        'x-b3-traceid': 'x',
        'x-b3-parentspanid': SPAN,
        'x-b3-flags': '1',
        host: 'a',
      };
      format.write(headers, { traceId, spanId, sampled });
      const parent = format.read(headers);
      const names = single ? 'b3,host' : 'host,x-b3-sampled,x-b3-spanid,x-b3-traceid';
      t.same(Object.keys(headers).sort().join(','), names);
      return parent?.traceId === traceId && parent.spanId === spanId && parent.sampled === sampled;
    }),
    { numRuns: 50 },
  );
});

t.test('whatever the headers are, the request has a valid context, and says the same in every format', async () => {
  const value = fc.option(
    fc.oneof(
      fc.string({ maxLength: 80 }),
      fc.constantFrom(`00-${TRACE}-${SPAN}-01`, `${TRACE}-${SPAN}-1`, TRACE, SPAN, '1', '0'),
      fc.array(fc.string(), { maxLength: 3 }),
    ),
    { nil: undefined },
  );
  const names = ['traceparent', 'tracestate', 'b3', 'x-b3-traceid', 'x-b3-spanid', 'x-b3-sampled', 'x-b3-flags'];
  const given = fc.record(Object.fromEntries(names.map((name) => [name, value])));
  const formats = fc.subarray([...FORMATS], { minLength: 1 });
  fc.assert(
    fc.property(given, formats, fc.boolean(), fc.double({ min: 0, max: 1 }), (found, list, trustParent, share) => {
      const headers = { ...found } as Headers;
      const propagation = new Propagation(list);
      const begun = propagation.begin(headers, { share, trustParent, random: () => 0.5 });
      if (!/^[0-9a-f]{32}$/.test(begun.traceId) || !/^[0-9a-f]{16}$/.test(begun.spanId)) return false;
      const lines = propagation.lines(begun);
      for (let index = 0; index < lines.length; index += 2)
        if (headers[lines[index]] !== lines[index + 1] && list.length + Number(begun.sampled) > 1) return false;
      const again = new Propagation(list).begin({ ...headers }, { ...NEVER, share: 0 });
      return again.traceId === begun.traceId && again.sampled === begun.sampled;
    }),
    { numRuns: 500 },
  );
});

t.test('an unsampled request passes its caller’s context on as it is', async (t) => {
  const headers: Headers = { traceparent: `00-${TRACE}-${SPAN}-00`, tracestate: 'a=b', baggage: 'c=d' };
  const before = { ...headers };
  const begun = new Propagation(['w3c']).begin(headers, NEVER);
  t.same(headers, before);
  t.match(begun, { traceId: TRACE, parentSpanId: SPAN, sampled: false });
});

t.test('a decision that is changed has a parent id of its own', async (t) => {
  const headers: Headers = { traceparent: `00-${TRACE}-${SPAN}-01` };
  const { spanId } = new Propagation(['w3c']).begin(headers, { ...NEVER, trustParent: false });
  t.not(spanId, SPAN);
  t.equal(headers.traceparent, `00-${TRACE}-${spanId}-00`);
});

t.test('a trace begins where there is none, unsampled too', async (t) => {
  const headers: Headers = {};
  const { traceId, spanId, parentSpanId } = new Propagation(['w3c', 'b3']).begin(headers, NEVER);
  t.equal(parentSpanId, null);
  t.same(headers, { traceparent: `00-${traceId}-${spanId}-00`, b3: `${traceId}-${spanId}-0` });
});

t.test('a trusted parent decides; a stranger’s decision counts for nothing, either way', async (t) => {
  const parent = (sampled: boolean | null) => ({ traceId: TRACE, spanId: SPAN, sampled });
  const low = { share: 0.3, random: () => 0.9 };
  const high = { share: 0.3, random: () => 0.1 };
  t.equal(decide(parent(true), { ...low, trustParent: true }), true);
  t.equal(decide(parent(false), { ...high, trustParent: true }), false);
  t.equal(decide(parent(null), { ...high, trustParent: true }), true, 'left to us');
  t.equal(decide(null, { ...high, trustParent: true }), true);
  t.equal(decide(parent(true), { ...low, trustParent: false }), false);
  t.equal(decide(parent(false), { ...high, trustParent: false }), true);
});

t.test('the share is kept, and nobody can choose a trace id that is always sampled', async (t) => {
  const random = seededRandom(7);
  const count = (share: number) =>
    Array.from({ length: 20_000 }).filter(() =>
      decide({ traceId: `${'0'.repeat(31)}1`, spanId: SPAN, sampled: true }, { share, trustParent: false, random }),
    ).length;
  t.equal(count(0), 0);
  t.equal(count(1), 20_000);
  t.ok(Math.abs(count(0.05) - 1_000) < 150);
  t.ok(Math.abs(count(0.5) - 10_000) < 400);
});

t.test('ids do not come twice', async (t) => {
  const ids = new Set<string>();
  for (let index = 0; index < 2_000; index++) ids.add(newTraceId()).add(newSpanId());
  t.equal(ids.size, 4_000);
  for (const id of ids) if (!/^(?:[0-9a-f]{32}|[0-9a-f]{16})$/.test(id)) t.fail(id);
});

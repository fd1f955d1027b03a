// What watches tries harms no request, whatever it throws.
import type { FastifyRequest } from 'fastify';
import { pino } from 'pino';
import t from 'tap';
import type { Attempt, AttemptWatch } from '../../src/plugin.ts';
import { joinObservers } from '../../src/proxy/observers.ts';

const REQUEST = {} as FastifyRequest;
const OUTGOING = { method: 'GET', path: '/', origin: 'http://a:1' };
const attempt = (): Attempt => ({ endpoint: 'a:1', outcome: 'ok', status: 200, durationMs: 1 });

function logged() {
  const lines: string[] = [];
  return { lines, logger: pino({}, { write: (line: string) => void lines.push(line) }) };
}

t.test('nobody who watches is nobody to call', async (t) => {
  t.equal(joinObservers([], logged().logger), null);
  const observe = joinObservers([() => null, () => null], logged().logger);
  t.equal(observe?.(REQUEST, attempt(), OUTGOING), null);
});

t.test('several observers each hear of the end, and each may say its headers', async (t) => {
  const heard: string[] = [];
  const watch = (name: string): AttemptWatch => ({ headers: [name, '1'], end: () => void heard.push(name) });
  const observe = joinObservers([() => watch('a'), () => null, () => watch('b')], logged().logger);
  const joined = observe?.(REQUEST, attempt(), OUTGOING);
  t.same(joined?.headers, ['a', '1', 'b', '1']);
  joined?.end(attempt());
  t.same(heard, ['a', 'b']);
});

t.test('an observer that throws is logged, and the others go on', async (t) => {
  const { lines, logger } = logged();
  const heard: string[] = [];
  const observe = joinObservers(
    [
      () => {
        throw new Error('at the start');
      },
      () => ({
        headers: [],
        end() {
          throw new Error('at the end');
        },
      }),
      () => ({ headers: ['x', 'y'], end: () => void heard.push('end') }),
    ],
    logger,
  );
  const watch = observe?.(REQUEST, attempt(), OUTGOING);
  t.same(watch?.headers, ['x', 'y']);
  watch?.end(attempt());
  t.same(heard, ['end']);
  t.match(lines, [/at the start/, /at the end/]);
});

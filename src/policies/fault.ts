// Faults on purpose: the `fault` key of a route and the options of the `fault` plugin.
import type { Static } from 'typebox';
import * as Type from 'typebox/type';
import { duration, integer, object, share, text } from '../schema-parts.ts';
import { parseDurationMs } from '../units.ts';
import { type PolicyProblem, unitProblems } from './problem.ts';

export const FaultOptions = object(
  {
    delay: Type.Optional(
      object(
        {
          share: Type.Optional(share('Share of the requests that wait.', { default: '100%', example: '5%' })),
          time: duration('How long.', { example: '2s' }),
        },
        'Requests wait before they go on.',
        { example: { share: '5%', time: '2s' } },
      ),
    ),
    abort: Type.Optional(
      object(
        {
          share: Type.Optional(
            share('Share of the requests that are answered so.', { default: '100%', example: '1%' }),
          ),
          status: integer('The status of the answer.', { minimum: 400, maximum: 599, example: 503 }),
        },
        'Requests are answered with an error instead of going on.',
        { example: { share: '1%', status: 503 } },
      ),
    ),
    header: Type.Optional(
      text('Only requests that carry this header are touched.', { example: 'x-chaos', minLength: 1 }),
    ),
  },
  'Delays and errors on purpose, to see what callers make of them.',
  { example: { delay: { share: '5%', time: '2s' } } },
);

export type FaultOptions = Static<typeof FaultOptions>;

export function faultProblems({ delay, abort }: FaultOptions): readonly PolicyProblem[] {
  if (delay === undefined && abort === undefined)
    return [{ path: '', message: 'does nothing: it needs "delay", "abort" or both' }];
  const problems = unitProblems({
    durations: { 'delay.time': delay?.time },
    shares: { 'delay.share': delay?.share, 'abort.share': abort?.share },
  });
  if (delay !== undefined && parseDurationMs(delay.time) === 0)
    problems.push({ path: 'delay.time', message: 'must be longer than 0' });
  return problems;
}

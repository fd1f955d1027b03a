// Copies of requests for a second service: the `mirror` key of a route and the options of the `mirror` plugin.
import type { Static } from 'typebox';
import * as Type from 'typebox/type';
import { integer, list, object, share, size, text } from '../schema-parts.ts';
import { type PolicyProblem, unitProblems } from './problem.ts';

export const MirrorTarget = object(
  {
    service: text('The service that gets copies.', { example: 'orders-next', minLength: 1 }),
    subset: Type.Optional(text('A subset of it.', { example: 'v2', minLength: 1 })),
    share: Type.Optional(share('Share of the requests that are copied.', { default: '100%', example: '10%' })),
    bufferBytes: Type.Optional(
      size('Bytes of a request body that are kept for the copy; a request with a larger body is not copied.', {
        default: '64KiB',
      }),
    ),
    maxInFlight: Type.Optional(
      integer('Copies under way at most; past it, requests are not copied.', {
        minimum: 1,
        maximum: 10_000,
        default: 100,
      }),
    ),
  },
  'A service that gets copies of requests; its answers are thrown away.',
  { example: { service: 'orders-next', share: '10%' } },
);

/** What stands at the `mirror` key of a route. */
export const MirrorTargets = list(
  MirrorTarget,
  'Services that get copies of the requests; nobody waits for their answers.',
  {
    minItems: 1,
    example: [{ service: 'orders-next', share: '10%' }],
  },
);

export const MirrorOptions = object({ to: MirrorTargets }, 'Copies of requests for other services.');

export type MirrorOptions = Static<typeof MirrorOptions>;

/** Paths begin with the index of a target: `[0].share`. */
export function mirrorProblems(targets: MirrorOptions['to']): readonly PolicyProblem[] {
  return unitProblems({
    shares: Object.fromEntries(targets.map(({ share }, index) => [`[${index}].share`, share])),
    sizes: Object.fromEntries(targets.map(({ bufferBytes }, index) => [`[${index}].bufferBytes`, bufferBytes])),
  });
}

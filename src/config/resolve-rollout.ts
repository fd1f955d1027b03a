// Resolves how a route moves by itself from one subset of its service to another.

import { parseShare } from '../units.ts';
import type { CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { KnownNames } from './known-names.ts';
import type { Action, RolloutPolicy } from './model.ts';
import { didYouMean } from './suggest.ts';
import { fraction, milliseconds } from './units.ts';

type RolloutInput = NonNullable<CompleteRoute['rollout']>;

export function resolveRollout(rollout: Cursor<RolloutInput> | null, action: Action): RolloutPolicy | null {
  if (rollout === null) return null;
  rollout.at('abort').given()?.error('is another spelling of "abortOn": say one of them');
  const { from, to } = rollout.value;
  if (from === to) rollout.at('to').error(`is the subset that the requests come "from": there is nothing to move`);
  const every = rollout.at('every').filled();
  const everyMs = milliseconds(every);
  if (everyMs === 0) every.error('must be longer than 0');
  return {
    service: serviceOf(rollout, action),
    from,
    to,
    steps: resolveSteps(rollout.at('steps').filled()),
    everyMs,
    abortOn: resolveAbort(rollout.at('abortOn').filled()),
    at: rollout.place,
  };
}

function serviceOf(rollout: Cursor<RolloutInput>, action: Action): string {
  if (action.kind !== 'forward') {
    rollout.error('needs a route with "to": it moves requests between subsets of a service');
    return '';
  }
  const [backend, ...others] = action.backends;
  if (others.length > 0)
    rollout.error('needs "to" to name one service: a rollout sets the weights itself, between two subsets of it');
  else if (backend?.subset != null)
    rollout.error(
      `needs "to" to name service "${backend.service}" without a subset: "from" and "to" of the rollout are its subsets`,
    );
  return backend?.service ?? '';
}

function resolveSteps(steps: Cursor<string[]>): number[] {
  const shares = steps.items().map(fraction);
  for (const [index, step] of steps.items().entries()) {
    // Above 100%: reported by now.
    if (parseShare(step.value) === null) continue;
    if (shares[index] === 0) step.error('is no step: it must be above 0%');
    else if (index > 0 && shares[index] <= shares[index - 1])
      step.error(`must be above the step before it (${steps.value[index - 1]})`);
    else if (index === shares.length - 1 && shares[index] !== 1)
      step.warn('is the last step, and not 100%: the rollout stays there, with both versions in use');
  }
  return shares;
}

function resolveAbort(abort: Cursor<NonNullable<RolloutInput['abortOn']>>): RolloutPolicy['abortOn'] {
  const errorRate = abort.at('errorRate').given();
  const p99 = abort.at('p99').given();
  const p99Ms = p99 === null ? null : milliseconds(p99);
  if (p99Ms === 0) p99?.error('must be longer than 0');
  if (errorRate === null && p99 === null)
    abort.warn('names neither "errorRate" nor "p99": the rollout goes on however the new version does');
  return {
    errorRate: errorRate === null ? null : fraction(errorRate),
    p99Ms,
    minRequests: abort.at('minRequests').filled().value,
  };
}

/** Subsets that do not exist; an unknown service is reported where the route names it. */
export function checkRolloutNames(route: Cursor<CompleteRoute>, { services }: KnownNames): void {
  const rollout = route.at('rollout').given();
  const [backend, ...others] = route.at('to').items();
  const subsets = others.length > 0 ? undefined : services.get(backend?.value.service);
  if (rollout === null || subsets === undefined) return;
  for (const key of ['from', 'to'] as const) {
    const subset = rollout.value[key];
    if (!subsets.has(subset))
      rollout
        .at(key)
        .error(`service "${backend.value.service}" has no subset "${subset}"${didYouMean(subset, subsets)}`);
  }
}

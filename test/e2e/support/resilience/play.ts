// How a scenario is played: endpoints that take a moment, an even load, and a fault beside it.

import type { Steady } from '../../../support/behaviour.ts';
import type { Upstream } from '../../../support/faulty-upstream.ts';
import { type Answer, type Load, openLoad } from '../../../support/open-load.ts';
import type { Owner } from '../process.ts';
import {
  failed,
  isIdempotent,
  type Outcome,
  POST_SHARE,
  type Scale,
  type Setting,
  startGateway,
  startUpstreams,
} from './stage.ts';

export interface Scenario {
  readonly name: string;
  play(scale: Scale, owner: Owner): Promise<Outcome>;
}

/** Milliseconds that a shared machine may take for what is due at once. */
export const SLACK_MS = 400;

/** Endpoints take a moment, so that requests are under way when something breaks. */
export const WORKING: Steady = { mode: 'ok', delayMs: 20 };

export const idempotent = (answers: readonly Answer[]): Answer[] => answers.filter(isIdempotent);
export const failuresOf = (answers: readonly Answer[]): number => answers.filter(failed).length;

export function load(port: number, { rate, seconds }: Scale): Load {
  return openLoad({ port, rate, seconds, postShare: POST_SHARE });
}

/** Three endpoints behind a gateway under load; `fault` runs beside it and returns when the fault began. */
export async function play(
  scale: Scale,
  owner: Owner,
  setting: Setting,
  fault: (load: Load, upstreams: readonly Upstream[], at: (share: number) => Promise<void>) => Promise<void>,
): Promise<{ answers: readonly Answer[]; upstreams: readonly Upstream[]; latestMs: number }> {
  const upstreams = await startUpstreams(owner, scale, 3, { behaviour: WORKING });
  const gateway = await startGateway(owner, scale, upstreams, setting);
  const running = load(gateway.port, scale);
  await fault(running, upstreams, (share) => running.until(scale.seconds * 1000 * share));
  return { answers: await running.done, upstreams, latestMs: Math.round(running.latestMs) };
}

export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

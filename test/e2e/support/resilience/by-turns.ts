// One of three endpoints fails by turns, or asks for rest.

import type { Steady } from '../../../support/behaviour.ts';
import { failuresOf, idempotent, play, type Scenario, SLACK_MS, WORKING } from './play.ts';
import { atLeast, atMost, common, p99, type Scale, tally } from './stage.ts';

export function flapping(
  name: string,
  other: Steady,
  every: (scale: Scale) => { requests: number } | { ms: number },
): Scenario {
  return {
    name,
    async play(scale, owner) {
      const { answers, upstreams, latestMs } = await play(
        scale,
        owner,
        {
          route: { retry: { attempts: 2, on: ['connect-failure', 'reset', 'gateway-error'] } },
          service: { outlierDetection: { baseEjection: '300ms', maxEjection: '2s' } },
        },
        async (_running, [, victim], at) => {
          await at(0.1);
          await victim.behave({ mode: 'flapping', between: [WORKING, other], every: every(scale) });
        },
      );
      return {
        checks: [
          ...common(answers, upstreams, scale, [0, scale.seconds * 1000]),
          atMost('idempotent requests failed', failuresOf(idempotent(answers)), idempotent(answers).length * 0.01),
          atMost('requests failed', failuresOf(answers), answers.length * 0.1),
          atLeast('requests that it had', upstreams[1].deliveries().total, 10),
        ],
        figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': latestMs },
      };
    },
  };
}

export function resting(name: string, behaviour: Steady): Scenario {
  return {
    name,
    async play(scale, owner) {
      let toldMs = 0;
      let before = 0;
      const { answers, upstreams, latestMs } = await play(
        scale,
        owner,
        { service: { outlierDetection: {} } },
        async (running, [, victim], at) => {
          await at(0.2);
          await victim.behave(behaviour);
          toldMs = running.elapsedMs;
          before = victim.deliveries().total;
        },
      );
      const late = answers.filter(({ sentMs }) => sentMs > toldMs + SLACK_MS);
      return {
        checks: [
          ...common(answers, upstreams, scale),
          atLeast('requests that it answered so', failuresOf(answers), 1),
          atMost('requests that it had from then on', upstreams[1].deliveries().total - before, 5),
          atMost('failures once it rests', failuresOf(late), 0),
        ],
        figures: { answers: tally(answers), 'driver late ms': latestMs },
      };
    },
  };
}

// Every endpoint fails, or the only one restarts.

import type { Steady } from '../../../support/behaviour.ts';
import type { Upstream } from '../../../support/faulty-upstream.ts';
import type { Answer } from '../../../support/open-load.ts';
import type { Owner } from '../process.ts';
import { failuresOf, load, play, type Scenario, SLACK_MS, WORKING } from './play.ts';
import {
  atLeast,
  atMost,
  common,
  deliveredTo,
  failed,
  type Scale,
  startGateway,
  startUpstreams,
  tally,
} from './stage.ts';

export const outage: Scenario = {
  name: 'all endpoints fail: no storm, prompt answers, and full service soon after they heal',
  async play(scale, owner) {
    const probeMs = 500;
    const deadlineMs = 2_000;
    const requestsAt: number[] = [];
    const deliveriesAt: number[] = [];
    let healedMs = 0;
    let servedBefore: number[] = [];
    const { answers, upstreams, latestMs } = await play(
      scale,
      owner,
      {
        route: {
          timeout: { request: `${deadlineMs}ms` },
          retry: { attempts: 2, on: ['connect-failure', 'reset', 'gateway-error'] },
        },
        service: {
          outlierDetection: { baseEjection: `${probeMs}ms`, maxEjection: `${probeMs}ms` },
          // In a small load the minimum alone would be more than the bound.
          ...(scale.processes ? {} : { retryBudget: { minPerSecond: 1 } }),
        },
      },
      async (running, all, at) => {
        const becomeAll = (behaviour: Steady) => Promise.all(all.map((upstream) => upstream.behave(behaviour)));
        await becomeAll({ mode: 'status', status: 503 });
        await at(0.5);
        requestsAt.push(running.elapsedMs);
        deliveriesAt.push(deliveredTo(all).total);
        await becomeAll({ mode: 'refuse' });
        await at(0.65);
        await becomeAll(WORKING);
        healedMs = running.elapsedMs;
        servedBefore = all.map((upstream) => upstream.deliveries().total);
      },
    );
    const during = answers.filter(({ sentMs }) => sentMs < healedMs);
    const requests503 = answers.filter(({ sentMs }) => sentMs < requestsAt[0]).length;
    const late = answers.filter(({ sentMs }) => sentMs > healedMs + probeMs + SLACK_MS);
    const backMs = Math.max(0, ...answers.filter(failed).map(({ sentMs }) => sentMs - healedMs));
    return {
      checks: [
        ...common(answers, upstreams, scale, [0, healedMs]),
        atMost('deliveries for each request while they answer 503', round(deliveriesAt[0] / requests503), 1.25),
        atMost(
          'failures that are not 502 or 503',
          answers.filter((answer) => failed(answer) && answer.status !== 502 && answer.status !== 503).length,
          0,
        ),
        atMost(
          'slowest answer, ms',
          Math.round(Math.max(...during.map(({ latencyMs }) => latencyMs))),
          deadlineMs + SLACK_MS,
        ),
        atLeast('failures during the outage', failuresOf(during), 1),
        atMost('failures later than one probe interval after', failuresOf(late), 0),
        atLeast('requests later than that', late.length, 10),
        atLeast(
          'endpoints that serve again',
          upstreams.filter((upstream, index) => upstream.deliveries().total > servedBefore[index]).length,
          3,
        ),
      ],
      figures: {
        answers: tally(answers),
        'last failure after healing ms': Math.round(backMs),
        'driver late ms': latestMs,
      },
    };
  },
};

/** The only endpoint is away for a second. */
async function restarting(
  scale: Scale,
  owner: Owner,
  connections: object,
): Promise<{ answers: readonly Answer[]; upstreams: readonly Upstream[]; awayMs: readonly [number, number] }> {
  const upstreams = await startUpstreams(owner, scale, 1);
  const gateway = await startGateway(owner, scale, upstreams, { service: { connections } });
  const running = load(gateway.port, scale);
  await running.until(scale.seconds * 300);
  const fromMs = running.elapsedMs;
  await upstreams[0].behave({ mode: 'refuse' });
  await running.until(fromMs + 1_000);
  await upstreams[0].behave(WORKING);
  const awayMs = [fromMs, running.elapsedMs] as const;
  return { answers: await running.done, upstreams, awayMs };
}

function during(answers: readonly Answer[], [fromMs, toMs]: readonly [number, number]): readonly Answer[] {
  return answers.filter(({ sentMs }) => sentMs >= fromMs && sentMs < toMs);
}

export const restarted: Scenario = {
  name: 'the only endpoint restarts: nobody notices',
  async play(scale, owner) {
    const { answers, upstreams, awayMs } = await restarting(scale, owner, { waitForEndpoint: '5s' });
    const waited = during(answers, awayMs).filter(({ sentMs, latencyMs }) => sentMs + latencyMs > awayMs[1]);
    const longestMs = Math.round(Math.max(...answers.map(({ latencyMs }) => latencyMs)));
    return {
      checks: [
        ...common(answers, upstreams, scale, awayMs),
        atMost('requests failed', failuresOf(answers), 0),
        atLeast('requests that waited', waited.length, 10),
      ],
      figures: { answers: tally(answers), 'longest wait ms': longestMs },
    };
  },
};

export const crowded: Scenario = {
  name: 'the only endpoint restarts and more come than may wait: they are told at once',
  async play(scale, owner) {
    const pending = 20;
    const { answers, upstreams, awayMs } = await restarting(scale, owner, { waitForEndpoint: '5s', pending });
    const refused = answers.filter(failed);
    const waited = during(answers, awayMs).filter(
      (answer) => !failed(answer) && answer.sentMs + answer.latencyMs >= awayMs[1] - SLACK_MS,
    );
    const late = refused.filter(({ sentMs }) => sentMs > awayMs[1] + SLACK_MS);
    return {
      checks: [
        ...common(answers, upstreams, scale, [awayMs[0], awayMs[1] + SLACK_MS]),
        atMost('failures that are not 503', refused.filter(({ status }) => status !== 503).length, 0),
        atLeast('requests refused', refused.length, 10),
        atMost('slowest refusal, ms', Math.round(Math.max(0, ...refused.map(({ latencyMs }) => latencyMs))), SLACK_MS),
        atLeast('requests that waited and were served', waited.length, 10),
        atMost('refused when it was back', late.length, 0),
      ],
      figures: { answers: tally(answers), waited: waited.length },
    };
  },
};

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

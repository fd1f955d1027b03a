// Every endpoint fails, or the only one restarts.

import type { Steady } from '../../../support/behaviour.ts';
import type { Upstream } from '../../../support/faulty-upstream.ts';
import type { Answer } from '../../../support/open-load.ts';
import type { Owner } from '../process.ts';
import { failuresOf, idempotent, load, play, round, type Scenario, SLACK_MS, WORKING } from './play.ts';
import {
  atLeast,
  atMost,
  common,
  deliveredTo,
  failed,
  type Scale,
  spawnUpstream,
  startGateway,
  startUpstreams,
  tally,
} from './stage.ts';

interface Outage {
  /** What all of them do first; then they refuse connections. */
  readonly failing: Steady;
  /** What clients may be told. */
  readonly statuses: readonly number[];
  /** Beside outlier detection. */
  readonly service?: object;
}

const PROBE_MS = 500;

export function outage(name: string, { failing, statuses, service }: Outage): Scenario {
  return {
    name,
    async play(scale, owner) {
      const deadlineMs = 2_000;
      let refusingMs = 0;
      let deliveredBefore = 0;
      let healedMs = 0;
      let servedBefore: number[] = [];
      const { answers, upstreams, latestMs } = await play(
        scale,
        owner,
        {
          route: {
            timeout: { request: `${deadlineMs}ms`, perTry: '400ms' },
            retry: { attempts: 2, on: ['connect-failure', 'reset', 'gateway-error', 'per-try-timeout'] },
          },
          service: {
            outlierDetection: { baseEjection: `${PROBE_MS}ms`, maxEjection: `${PROBE_MS}ms` },
            // In a small load the minimum alone would be more than the bound.
            ...(scale.processes ? {} : { retryBudget: { minPerSecond: 1 } }),
            ...service,
          },
        },
        async (running, all, at) => {
          const becomeAll = (behaviour: Steady) => Promise.all(all.map((upstream) => upstream.behave(behaviour)));
          await becomeAll(failing);
          await at(0.5);
          refusingMs = running.elapsedMs;
          deliveredBefore = deliveredTo(all).total;
          await becomeAll({ mode: 'refuse' });
          await at(0.65);
          await becomeAll(WORKING);
          healedMs = running.elapsedMs;
          servedBefore = all.map((upstream) => upstream.deliveries().total);
        },
      );
      const early = during(answers, [0, healedMs]);
      const late = answers.filter(({ sentMs }) => sentMs > healedMs + PROBE_MS + SLACK_MS);
      const lastFailedMs = Math.max(0, ...answers.filter(failed).map(({ sentMs }) => sentMs - healedMs));
      const slowestMs = Math.round(Math.max(...early.map(({ latencyMs }) => latencyMs)));
      const again = upstreams.filter((upstream, index) => upstream.deliveries().total > servedBefore[index]).length;
      return {
        checks: [
          ...common(answers, upstreams, scale, [0, healedMs + PROBE_MS + SLACK_MS]),
          atMost(
            'deliveries for each request, before they refuse connections',
            round(deliveredBefore / during(answers, [0, refusingMs]).length),
            1.25,
          ),
          atMost(
            `failures that are not ${statuses.join(', ')}`,
            answers.filter((answer) => failed(answer) && !statuses.includes(answer.status)).length,
            0,
          ),
          atMost('slowest answer, ms', slowestMs, deadlineMs + SLACK_MS),
          atLeast('failures during the outage', failuresOf(early), 1),
          atMost('failures later than one probe interval after', failuresOf(late), 0),
          atLeast('requests later than that', late.length, 10),
          atLeast('endpoints that serve again', again, 3),
        ],
        figures: {
          answers: tally(answers),
          'last failure after healing ms': Math.round(lastFailedMs),
          'driver late ms': latestMs,
        },
      };
    },
  };
}

/**
 * The moment in which an endpoint goes: a POST that meets the closing of its connection may have been acted on, for all that
 * anyone can tell.
 */
const GOING_MS = 50;

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
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
        atMost(
          'requests failed that came once it was away',
          failuresOf(during(answers, [awayMs[0] + GOING_MS, Infinity])),
          0,
        ),
        atLeast('requests that waited', waited.length, 10),
      ],
      figures: { answers: tally(answers), 'longest wait ms': longestMs },
    };
  },
};

export const killedAlone: Scenario = {
  name: 'the only endpoint is killed and started again: no idempotent request fails',
  async play(scale, owner) {
    const upstream = await spawnUpstream(owner, { behaviour: WORKING });
    const gateway = await startGateway(owner, scale, [upstream], {
      service: { connections: { waitForEndpoint: '5s' } },
      route: { retry: { attempts: 2, on: ['connect-failure', 'reset'] } },
    });
    const running = load(gateway.port, scale);
    await running.until(scale.seconds * 300);
    const fromMs = running.elapsedMs;
    await upstream.kill();
    const goneMs = running.elapsedMs + 50;
    await running.until(fromMs + 500);
    await upstream.restart();
    const awayMs = [fromMs, running.elapsedMs] as const;
    const answers = await running.done;
    return {
      checks: [
        ...common(answers, [upstream], scale, [fromMs, goneMs]),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
        atMost('requests failed that came while it was away', failuresOf(during(answers, [goneMs, awayMs[1]])), 0),
        atLeast('requests that came while it was away', during(answers, awayMs).length, 10),
      ],
      figures: { answers: tally(answers), 'away ms': Math.round(awayMs[1] - awayMs[0]) },
    };
  },
};

export const crowded: Scenario = {
  name: 'the only endpoint restarts and more come than may wait: they are told at once',
  async play(scale, owner) {
    const pending = 20;
    const { answers, upstreams, awayMs } = await restarting(scale, owner, { waitForEndpoint: '5s', pending });
    const refused = answers.filter((answer) => failed(answer) && answer.sentMs > awayMs[0] + GOING_MS);
    const waited = during(answers, awayMs).filter(
      (answer) => !failed(answer) && answer.sentMs + answer.latencyMs >= awayMs[1] - SLACK_MS,
    );
    const late = refused.filter(({ sentMs }) => sentMs > awayMs[1] + SLACK_MS);
    return {
      checks: [
        ...common(answers, upstreams, scale, [awayMs[0], awayMs[1] + SLACK_MS]),
        atMost('idempotent requests failed before', failuresOf(idempotent(during(answers, [0, awayMs[0]]))), 0),
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

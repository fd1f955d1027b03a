// One of three endpoints fails: it is killed, never answers, answers 503, breaks off, or becomes slow.

import type { ResetPhase } from '../../../support/behaviour.ts';
import { failuresOf, idempotent, load, play, round, type Scenario, WORKING } from './play.ts';
import {
  atLeast,
  atMost,
  common,
  deliveredTo,
  p99,
  spawnUpstream,
  startGateway,
  startUpstreams,
  tally,
} from './stage.ts';

export const killed: Scenario = {
  name: 'one endpoint is killed: no idempotent request fails',
  async play(scale, owner) {
    const others = await startUpstreams(owner, scale, 2, { behaviour: WORKING });
    const victim = await spawnUpstream(owner, { behaviour: WORKING });
    const upstreams = [...others, victim];
    const gateway = await startGateway(owner, scale, upstreams, {
      route: { retry: { attempts: 2, on: ['connect-failure', 'reset'] } },
      service: { outlierDetection: { baseEjection: '500ms', maxEjection: '1s' } },
    });
    const running = load(gateway.port, scale);
    await running.until(scale.seconds * 300);
    const before = victim.deliveries().total;
    const killedMs = running.elapsedMs;
    await victim.kill();
    const goneMs = running.elapsedMs + 50;
    await running.until(scale.seconds * 500);
    await victim.restart();
    const answers = await running.done;
    return {
      checks: [
        ...common(answers, upstreams, scale, [killedMs, goneMs]),
        atLeast('requests that it had before', before, 10),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
        atLeast('requests that it has again after its restart', victim.deliveries().total - before, 1),
      ],
      figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': Math.round(running.latestMs) },
    };
  },
};

export const blackHoled: Scenario = {
  name: 'one endpoint never answers: few wait for a second try, and none once it is ejected',
  async play(scale, owner) {
    const { perTryMs, failures } = scale.processes ? { perTryMs: 500, failures: 5 } : { perTryMs: 250, failures: 3 };
    let faultMs = 0;
    let before = 0;
    const { answers, upstreams, latestMs } = await play(
      scale,
      owner,
      {
        route: {
          timeout: { request: '5s', perTry: `${perTryMs}ms` },
          retry: { attempts: 2, on: ['connect-failure', 'reset', 'per-try-timeout'] },
        },
        service: { outlierDetection: { consecutive5xx: failures } },
      },
      async (running, [, victim], at) => {
        await at(0.15);
        faultMs = running.elapsedMs;
        before = victim.deliveries().total;
        await victim.behave({ mode: 'black-hole' });
      },
    );
    const fallen = new Set(
      upstreams[1]
        .deliveries()
        .all.slice(before)
        .map(({ number }) => number),
    );
    // On a busy machine others may be slow as well, which proves nothing about the endpoint.
    const slow = idempotent(answers).filter(({ latencyMs, number }) => latencyMs >= perTryMs && fallen.has(number));
    // One at a time may find it idle, so failures may follow each other that slowly.
    const ejectedMs = faultMs + (failures + 2) * perTryMs;
    // A small load is too small for a share to mean much: what the endpoint would get by turns in the time of two tries.
    const fairShare = scale.processes ? 0 : (scale.rate * 2 * perTryMs) / 1000 / 3;
    const lastSlowMs = Math.max(0, ...slow.map(({ sentMs }) => sentMs - faultMs));
    return {
      checks: [
        ...common(answers, upstreams, scale),
        atLeast('requests that fell into it', fallen.size, 1),
        atMost(
          'idempotent requests slower than one try',
          slow.length,
          Math.max(fairShare, idempotent(answers).length * 0.005),
        ),
        atMost('of them sent once it was ejected', slow.filter(({ sentMs }) => sentMs > ejectedMs).length, 0),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
      ],
      figures: {
        answers: tally(answers),
        'slow for other reasons': answers.filter(
          ({ latencyMs, number }) => latencyMs >= perTryMs && !fallen.has(number),
        ).length,
        'last slow one sent after ms': Math.round(lastSlowMs),
        'driver late ms': latestMs,
      },
    };
  },
};

export const unavailable: Scenario = {
  name: 'one endpoint answers 503: hardly an idempotent request fails',
  async play(scale, owner) {
    let before = 0;
    const { answers, upstreams, latestMs } = await play(
      scale,
      owner,
      {
        route: { retry: { attempts: 2, on: ['connect-failure', 'reset', 'gateway-error'] } },
        service: { outlierDetection: {} },
      },
      async (_running, [, victim], at) => {
        await at(0.2);
        await victim.behave({ mode: 'status', status: 503 });
        await at(0.5);
        before = victim.deliveries().total;
      },
    );
    return {
      checks: [
        ...common(answers, upstreams, scale),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), idempotent(answers).length * 0.002),
        atMost('POSTs failed', failuresOf(answers) - failuresOf(idempotent(answers)), 10),
        atMost('requests that it had once it was ejected', upstreams[1].deliveries().total - before, 2),
      ],
      figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': latestMs },
    };
  },
};

const PHASES: readonly ResetPhase[] = ['accept', 'head', 'body', 'response-head', 'reused'];

export const breaking: Scenario = {
  name: 'one endpoint resets connections in every phase before a response: no idempotent request fails',
  async play(scale, owner) {
    let seen = 0;
    const { answers, upstreams, latestMs } = await play(
      scale,
      owner,
      {
        route: { retry: { attempts: 2, on: ['connect-failure', 'reset'] } },
        // It is hit all the time, so that each phase is met often.
        service: { outlierDetection: false, retryBudget: { share: '100%' } },
      },
      async (_running, [, victim], at) => {
        for (const [index, phase] of PHASES.entries()) {
          await at(0.1 + 0.17 * index);
          const before = victim.deliveries().total;
          await victim.behave({ mode: 'reset', phase });
          await at(0.1 + 0.17 * (index + 1));
          // Of what is reset at once it never knows.
          if (phase === 'accept' || victim.deliveries().total > before) seen += 1;
        }
      },
    );
    return {
      checks: [
        ...common(answers, upstreams, scale, [0, scale.seconds * 1000]),
        atLeast('phases that were met', seen, PHASES.length),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
      ],
      figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': latestMs },
    };
  },
};

export const hedged: Scenario = {
  name: 'one endpoint becomes slow: second tries beside the first keep requests fast',
  async play(scale, owner) {
    const slowMs = 1_000;
    let before = 0;
    const { answers, upstreams, latestMs } = await play(
      scale,
      owner,
      { route: { hedge: { after: '100ms' } }, service: { outlierDetection: {} } },
      async (_running, [, victim], at) => {
        await at(0.2);
        before = victim.deliveries().total;
        await victim.behave({ mode: 'slow', firstByteMs: slowMs });
      },
    );
    const slow = new Set(
      upstreams[1]
        .deliveries()
        .all.slice(before)
        .map(({ number }) => number),
    );
    const met = idempotent(answers).filter(({ number }) => slow.has(number));
    return {
      checks: [
        ...common(answers, upstreams, scale),
        atMost('requests failed', failuresOf(answers), 0),
        atLeast('idempotent requests that met it', met.length, 1),
        atMost('of them as slow as it is', met.filter(({ latencyMs }) => latencyMs >= slowMs).length, 0),
        atMost('deliveries for each request', round(deliveredTo(upstreams).total / answers.length), 1.25),
      ],
      figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': latestMs },
    };
  },
};

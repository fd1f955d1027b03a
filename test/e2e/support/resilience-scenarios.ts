// The scenarios of resilience: what fails behind the gateway, and what its clients may notice of it. The suite plays them small, bench/ at full size.

import type { Steady } from '../../support/behaviour.ts';
import type { Upstream } from '../../support/faulty-upstream.ts';
import { type Answer, type Load, openLoad } from '../../support/open-load.ts';
import type { Owner } from './process.ts';
import {
  atLeast,
  atMost,
  common,
  deliveredTo,
  failed,
  isIdempotent,
  type Outcome,
  POST_SHARE,
  p99,
  type Scale,
  type Setting,
  spawnUpstream,
  startGateway,
  startUpstreams,
  tally,
} from './resilience-stage.ts';

export interface Scenario {
  readonly name: string;
  play(scale: Scale, owner: Owner): Promise<Outcome>;
}

/** Milliseconds that a shared machine may take for what is due at once. */
const SLACK_MS = 400;

/** Endpoints take a moment, so that requests are under way when something breaks. */
const WORKING: Steady = { mode: 'ok', delayMs: 20 };

const idempotent = (answers: readonly Answer[]): Answer[] => answers.filter(isIdempotent);
const failuresOf = (answers: readonly Answer[]): number => answers.filter(failed).length;

function load(port: number, { rate, seconds }: Scale): Load {
  return openLoad({ port, rate, seconds, postShare: POST_SHARE });
}

/** Three endpoints behind a gateway under load; `fault` runs beside it and returns when the fault began. */
async function play(
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

const killed: Scenario = {
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

const blackHoled: Scenario = {
  name: 'one endpoint never answers: few wait for a second try, and none once it is ejected',
  async play(scale, owner) {
    const { perTryMs, failures } = scale.processes ? { perTryMs: 500, failures: 5 } : { perTryMs: 250, failures: 3 };
    let faultMs = 0;
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
        await victim.behave({ mode: 'black-hole' });
      },
    );
    const slow = idempotent(answers).filter(({ latencyMs }) => latencyMs >= perTryMs);
    // One at a time may find it idle, so failures may follow each other that slowly.
    const ejectedMs = faultMs + (failures + 2) * perTryMs;
    const lastSlowMs = Math.max(0, ...slow.map(({ sentMs }) => sentMs - faultMs));
    return {
      checks: [
        ...common(answers, upstreams, scale),
        atLeast('requests that fell into it', slow.length, 1),
        atMost(
          'idempotent requests slower than one try',
          slow.length,
          Math.max(12, idempotent(answers).length * 0.005),
        ),
        atMost('of them sent once it was ejected', slow.filter(({ sentMs }) => sentMs > ejectedMs).length, 0),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
      ],
      figures: {
        answers: tally(answers),
        'last slow one sent after ms': Math.round(lastSlowMs),
        'driver late ms': latestMs,
      },
    };
  },
};

const unavailable: Scenario = {
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

const outage: Scenario = {
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

const restarted: Scenario = {
  name: 'the only endpoint restarts: nobody notices',
  async play(scale, owner) {
    const { answers, upstreams, awayMs } = await restarting(scale, owner, { waitForEndpoint: '5s' });
    const waited = answers.filter(({ sentMs, latencyMs }) => sentMs >= awayMs[0] && sentMs + latencyMs > awayMs[1]);
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

const crowded: Scenario = {
  name: 'the only endpoint restarts and more come than may wait: they are told at once',
  async play(scale, owner) {
    const pending = 20;
    const { answers, upstreams, awayMs } = await restarting(scale, owner, { waitForEndpoint: '5s', pending });
    const refused = answers.filter(failed);
    const during = answers.filter(({ sentMs }) => sentMs >= awayMs[0] && sentMs < awayMs[1]);
    const waited = during.filter(
      (answer) => !failed(answer) && answer.sentMs + answer.latencyMs >= awayMs[1] - SLACK_MS,
    );
    const late = refused.filter(({ sentMs }) => sentMs > awayMs[1] + SLACK_MS);
    return {
      checks: [
        ...common(answers, upstreams, scale, awayMs),
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

function flapping(
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

function resting(name: string, behaviour: Steady): Scenario {
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
          atLeast('requests that it answered so', upstreams[1].deliveries().total - before, 1),
          atMost('requests that it had from then on', upstreams[1].deliveries().total - before, 5),
          atMost('failures once it rests', failuresOf(late), 0),
        ],
        figures: { answers: tally(answers), 'driver late ms': latestMs },
      };
    },
  };
}

const keptConnections: Scenario = {
  name: 'endpoints close idle connections just as the next burst comes: no idempotent request fails',
  async play(scale, owner) {
    const closeIdleMs = 500;
    const upstreams = await startUpstreams(owner, scale, 3, { closeIdleMs });
    const gateway = await startGateway(owner, scale, upstreams, {});
    const { rate, seconds } = scale;
    const running = openLoad({ port: gateway.port, rate, seconds, postShare: POST_SHARE, burstEveryMs: closeIdleMs });
    const answers = await running.done;
    return {
      checks: [
        ...common(answers, upstreams, scale, [0, seconds * 1000]),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
        atMost('POSTs failed', failuresOf(answers) - failuresOf(idempotent(answers)), answers.length * 0.01),
      ],
      figures: { answers: tally(answers), 'p99 ms': p99(answers), 'driver late ms': Math.round(running.latestMs) },
    };
  },
};

const reloaded: Scenario = {
  name: 'endpoints come and go by reloads: nobody notices',
  async play(scale, owner) {
    const upstreams = await startUpstreams(owner, scale, 3, { behaviour: WORKING });
    const [one, two, three] = upstreams;
    const gateway = await startGateway(owner, scale, [one, two], {});
    const running = load(gateway.port, scale);
    const sets = [[one, two, three], [two, three], [three], [one, three], [one, two]];
    let edits = 0;
    for (let share = 0.1; share < 0.9; share += 0.08) {
      await running.until(scale.seconds * 1000 * share);
      await gateway.edit(sets[edits % sets.length]);
      edits += 1;
    }
    const answers = await running.done;
    return {
      checks: [
        ...common(answers, upstreams, scale),
        atMost('requests failed', failuresOf(answers), 0),
        atLeast('edits', edits, 8),
        atLeast('endpoints that served', upstreams.filter((upstream) => upstream.deliveries().total > 0).length, 3),
      ],
      figures: {
        answers: tally(answers),
        edits,
        'p99 ms': p99(answers),
        'driver late ms': Math.round(running.latestMs),
      },
    };
  },
};

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

export const SCENARIOS: readonly Scenario[] = [
  killed,
  blackHoled,
  unavailable,
  outage,
  restarted,
  crowded,
  flapping('one endpoint fails by turns: few notice', { mode: 'status', status: 503 }, () => ({ requests: 20 })),
  flapping('one endpoint comes and goes: few notice', { mode: 'refuse' }, ({ seconds }) => ({ ms: seconds * 75 })),
  resting('one endpoint answers 429 with Retry-After: it rests', {
    mode: 'status',
    status: 429,
    retryAfter: { seconds: 20 },
  }),
  resting('one endpoint answers 503 with a date to come again: it rests', {
    mode: 'status',
    status: 503,
    retryAfter: { dateInMs: 20_000 },
  }),
  keptConnections,
  reloaded,
];

// Nothing fails, and connections and endpoints come and go all the same.

import { openLoad } from '../../../support/open-load.ts';
import { failuresOf, idempotent, load, type Scenario, WORKING } from './play.ts';
import { atLeast, atMost, common, failed, POST_SHARE, p99, startGateway, startUpstreams, tally } from './stage.ts';

export const keptConnections: Scenario = {
  name: 'endpoints close idle connections just as the next burst comes: no idempotent request fails',
  async play(scale, owner) {
    const closeIdleMs = scale.processes ? 1_000 : 500;
    const upstreams = await startUpstreams(owner, scale, 3, { closeIdleMs });
    const gateway = await startGateway(owner, scale, upstreams, {});
    const { rate, seconds } = scale;
    const running = openLoad({ port: gateway.port, rate, seconds, postShare: POST_SHARE, burstEveryMs: closeIdleMs });
    const answers = await running.done;
    const bursts = new Set(answers.filter(failed).map(({ sentMs }) => Math.round(sentMs / closeIdleMs)));
    return {
      checks: [
        ...common(answers, upstreams, scale, [0, seconds * 1000]),
        atMost('idempotent requests failed', failuresOf(idempotent(answers)), 0),
        // A POST may meet a closing until the gateway has seen twice, of each endpoint, when it closes.
        atMost('bursts in which a POST failed', bursts.size, 2 * upstreams.length),
      ],
      figures: {
        answers: tally(answers),
        'those bursts': [...bursts].join(' ') || 'none',
        'p99 ms': p99(answers),
        'driver late ms': Math.round(running.latestMs),
      },
    };
  },
};

export const reloaded: Scenario = {
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

// Endpoints fail under load behind the real gateway: the scenarios that bench/resilience.ts plays at full size, small.
import t from 'tap';
import { holds, type Scale } from './support/resilience/stage.ts';
import { SCENARIOS } from './support/resilience-scenarios.ts';

const SMALL: Scale = { rate: 120, seconds: 4, processes: false };

// They mostly wait for time to pass: four beside each other.
t.jobs = 4;

for (const { name, play } of SCENARIOS) {
  t.test(name, { buffered: true }, async (t) => {
    const { checks, figures } = await play(SMALL, t);
    for (const [figure, value] of Object.entries(figures)) t.comment(`${figure}: ${value}`);
    for (const check of checks) {
      const { what, measured, bound, limit } = check;
      t.ok(holds(check), `${what}: ${measured}, ${bound} ${limit}`);
    }
  });
}

// `node bench/resilience.ts`: endpoints fail under 500 requests a second; what clients notice, against what they may. Exit code 1: a bound is passed.
import { parseArgs } from 'node:util';
import type { Owner } from '../test/e2e/support/process.ts';
import type { Scenario } from '../test/e2e/support/resilience/play.ts';
import { holds, type Outcome, type Scale } from '../test/e2e/support/resilience/stage.ts';
import { SCENARIOS } from '../test/e2e/support/resilience-scenarios.ts';

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '20' },
    /** Only the scenarios whose name contains this. */
    only: { type: 'string', default: '' },
  },
});
const scale: Scale = { rate: Number(values.rate), seconds: Number(values.seconds), processes: true };

async function play({ play }: Scenario): Promise<Outcome> {
  const endings: (() => unknown)[] = [];
  const owner: Owner = { teardown: (end) => endings.push(end) };
  try {
    return await play(scale, owner);
  } finally {
    for (const end of endings.reverse()) await end();
  }
}

let failures = 0;
const rows: string[] = [];
for (const scenario of SCENARIOS.filter(({ name }) => name.includes(values.only))) {
  process.stderr.write(`${scenario.name}\n`);
  try {
    const { checks, figures } = await play(scenario);
    const passed = checks.every(holds);
    if (!passed) failures += 1;
    rows.push(`| **${scenario.name}** | | | ${passed ? 'pass' : 'FAIL'} |`);
    for (const check of checks) {
      const { what, measured, bound, limit } = check;
      rows.push(
        `| ${what} | ${measured} | ${bound} ${Math.round(limit * 100) / 100} | ${holds(check) ? '' : 'FAIL'} |`,
      );
    }
    for (const [figure, value] of Object.entries(figures)) rows.push(`| ${figure} | ${value} | | |`);
  } catch (error) {
    failures += 1;
    rows.push(`| **${scenario.name}** | ${error instanceof Error ? error.message : String(error)} | | FAIL |`);
  }
}
process.stdout.write(
  `| ${scale.rate} requests/s for ${scale.seconds} s | measured | bound | |\n|---|---|---|---|\n${rows.join('\n')}\n`,
);
process.exitCode = failures === 0 ? 0 : 1;

// Problems that plugins find in their options, led back to where the config says them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../src/config/load.ts';
import type { PluginUse } from '../../src/config/model.ts';
import { formatProblem } from '../../src/config/problem.ts';
import { locatePluginProblem } from '../../src/proxy/locate-plugin-problem.ts';

const CONFIG = `version: 1
gateways: { public: { listeners: [{ name: http, port: 8080 }], plugins: [limit: { max: 5 }] } }
services: { orders: { endpoints: ["a:1"] }, copy: { endpoints: ["b:1"] } }
routes:
  - name: one
    to: orders
    plugins: [cors, limit: { rules: [{ max: 9 }] }]
    fault:
      delay: { time: 2s }
    mirror:
      - { service: copy, share: 5% }
`;

t.test('a problem with an option stands where the option was written, in a list of plugins or at a key', async (t) => {
  const dir = t.testdir({});
  writeFileSync(join(dir, 'c.yaml'), CONFIG);
  const { config, provenance } = await loadConfig('c.yaml', { cwd: dir, env: {} });
  if (config === null || provenance === null) throw new Error('a sound config');
  const [one] = config.routes;
  const uses = [...config.gateways[0].plugins, ...one.plugins] as PluginUse[];
  const located = (name: string, path: string, last = true): string => {
    const found = last ? uses.findLast((use) => use.name === name) : uses.find((use) => use.name === name);
    const place = found?.at ?? null;
    return formatProblem(locatePluginProblem({ severity: 'error', place, path, message: 'wrong' }, config, provenance));
  };
  t.equal(located('limit', 'limit.max', false), 'c.yaml:2:88 gateways.public.plugins[0].max: wrong');
  t.equal(located('limit', 'limit.rules[0].max'), 'c.yaml:7:45 routes[0].plugins[1].rules[0].max: wrong');
  t.equal(located('fault', 'fault.delay.time'), 'c.yaml:9:22 routes[0].fault.delay.time: wrong');
  t.equal(located('mirror', 'mirror.to[0].share'), 'c.yaml:11:33 routes[0].mirror[0].share: wrong');
  t.equal(located('mirror', 'mirror'), 'c.yaml:11:7 routes[0].mirror: wrong');
  t.equal(located('nobody', 'limit.max'), 'limit.max: wrong', 'what belongs to no plugin stays as it is');
});

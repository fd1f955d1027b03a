// A rollout of a running process, from its YAML to the command line that asks for it.
import t, { type Test } from 'tap';
import { command } from '../../src/cli/rollout.ts';
import { runCommand } from '../cli/support/io.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { eventually, httpUpstream } from './support/sockets.ts';

interface Setup {
  readonly port: number;
  readonly admin: number;
  readonly v1: number;
  readonly v2: number;
}

function yaml({ port, admin, v1, v2 }: Setup, rollout: string): string {
  return `version: 1
admin: { host: 127.0.0.1, port: ${admin} }
telemetry: { accessLog: false }
gateways: { edge: { listeners: [{ name: http, host: 127.0.0.1, port: ${port} }] } }
services:
  app:
    endpoints:
      - { address: "127.0.0.1:${v1}", labels: { version: v1 } }
      - { address: "127.0.0.1:${v2}", labels: { version: v2 } }
    subsets: { v1: { version: v1 }, v2: { version: v2 } }
routes:
  - name: app
    to: app
    rollout: ${rollout}
`;
}

async function start(t: Test, rollout: string) {
  const answers = { v1: 200, v2: 200 };
  const seen = { v1: 0, v2: 0 };
  const upstream = async (name: 'v1' | 'v2') => {
    const { port } = await httpUpstream(t, (_req, res) => {
      seen[name] += 1;
      res.writeHead(answers[name]).end(name);
    });
    return port;
  };
  const setup = {
    port: await freePort(),
    admin: await freePort(),
    v1: await upstream('v1'),
    v2: await upstream('v2'),
  };
  const file = `${t.testdir({})}/selvedge.yaml`;
  const process = await RunningProcess.start(t, file, yaml(setup, rollout));
  return {
    process,
    answers,
    seen,
    edit: (next: string) => process.edit(yaml(setup, next)),
    requests: async (count: number) => {
      for (let index = 0; index < count; index++) await (await fetch(`http://127.0.0.1:${setup.port}/`)).arrayBuffer();
    },
    cli: (...args: string[]) => runCommand(command, [...args, '-c', file], '/'),
    metrics: async () => (await fetch(`http://127.0.0.1:${setup.admin}/metrics`)).text(),
  };
}

t.test('a v2 that fails is out at once, stays out over a reload, and comes back when it is resumed', async (t) => {
  const written = '{ from: v1, to: v2, steps: [50%, 100%], every: 1h, abortOn: { errorRate: 10%, minRequests: 20 } }';
  const { process, answers, seen, edit, requests, cli, metrics } = await start(t, written);
  await requests(100);
  t.ok(seen.v1 > 20 && seen.v2 > 20, `${seen.v1} and ${seen.v2}`);
  t.match(await cli('status'), { code: 0, stdout: /^app: app v1 → v2, progressing, step 1 of 2 \(50 %, 100 %\)/ });
  t.match(await metrics(), /^selvedge_rollout_share\{route="app"\} 0\.5$/m);

  answers.v2 = 500;
  await requests(200);
  const aborted = /^rollout of route "app" aborted: v2 failed \d+\.\d % of \d+ requests, v1 0\.0 % of \d+, limit 10 %$/;
  await eventually(() => process.lines.some(({ level, msg }) => level === 40 && aborted.test(msg)), 'it is logged');
  t.match(await cli('status', 'app'), { code: 0, stdout: /aborted/ });
  t.match(await metrics(), /^selvedge_rollout_aborted_total\{route="app"\} 1$/m);
  const { v2 } = seen;
  await edit(`${written} # saved again`);
  await requests(50);
  t.equal(seen.v2, v2);

  answers.v2 = 200;
  t.match(await cli('resume', 'app'), { code: 0, stdout: /progressing, step 1 of 2/ });
  await requests(50);
  t.ok(seen.v2 > v2);
  t.match(await cli('abort'), { code: 0, stdout: /aborted by an operator/ });
});

t.test('goes through its steps by itself to the end', async (t) => {
  const { process, seen, requests, cli } = await start(
    t,
    '{ from: v1, to: v2, steps: [50%, 100%], every: 50ms, abortOn: { errorRate: 10%, minRequests: 5 } }',
  );
  const complete = () =>
    process.lines.some(({ msg }) => msg === 'rollout of route "app" completed: app has moved to v2');
  const end = performance.now() + 20_000;
  while (!complete() && performance.now() < end) await requests(10);
  t.ok(complete());
  const { v1 } = seen;
  await requests(50);
  t.equal(seen.v1, v1);
  t.match(await cli('pause'), { code: 1, stderr: /it is complete/ });
});

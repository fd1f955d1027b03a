// A config that is large enough to be read by a thread: its edits under load, what is wrong with it, and the end of the process.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { largeConfig } from '../../bench/reload-config.ts';
import { openLoad } from '../support/open-load.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { exchange, httpUpstream } from './support/sockets.ts';

const ROUTES = 400;

t.test('a large config is edited under load: no request fails, and its problems have their places', async (t) => {
  const [backend, port, admin] = await Promise.all([
    httpUpstream(t, (req, res) => req.resume().on('end', () => res.end('here'))),
    freePort(),
    freePort(),
  ]);
  const text = (edition: number): string => largeConfig(ROUTES, port, admin, `127.0.0.1:${backend.port}`, edition);
  const running = await RunningProcess.start(t, `${t.testdir({})}/selvedge.yaml`, text(0));
  const load = openLoad({ port, rate: 100, seconds: 300 });
  t.teardown(() => load.stop());

  for (const edition of [1, 2, 3]) {
    await running.edit(text(edition));
    t.match(await exchange(t, port, 'GET /edition HTTP/1.1\r\nHost: a\r\n\r\n'), new RegExp(`edition ${edition}$`));
  }

  const parts = text(4).split(/(?= {2}- name: route-200\n)/);
  let longestMs = 0;
  await running.after('config in force', async () => {
    writeFileSync(running.file, '');
    for (const part of parts) {
      const startedAt = performance.now();
      await wait(15);
      appendFileSync(running.file, part);
      longestMs = Math.max(longestMs, performance.now() - startedAt);
    }
  });
  // On a machine that is busy elsewhere the parts may be further apart than the quiet time.
  if (longestMs < 35) {
    t.equal(running.count('config rejected: the one in force stays'), 0, 'nobody hears that the file was empty');
    t.match(await exchange(t, port, 'GET /edition HTTP/1.1\r\nHost: a\r\n\r\n'), /edition 4$/);
    t.equal(running.count('config in force'), 5, 'a save in parts is one edit');
  }

  const lines = text(5).split('\n');
  const at = lines.findIndex((line) => line.includes('body-limit')) + 1;
  const column = lines[at - 1].indexOf('1MiB') + 1;
  await running.spoil(text(5).replace('body-limit: { max: 1MiB }', 'body-limit: { max: 1Mib }'));
  const place = `selvedge.yaml:${at}:${column} `;
  t.ok(
    running.lines.some(({ msg }) => msg.includes(place) && msg.includes('plugins[0].max')),
    `a problem of a plugin at ${place}`,
  );
  await running.spoil(text(5).replace('to: service-7\n', 'to: service-none\n'));
  t.ok(
    running.lines.some(({ msg }) => msg.includes('no service "service-none"')),
    'a problem of the config',
  );

  await running.edit(text(6));
  t.match(await exchange(t, port, 'GET /edition HTTP/1.1\r\nHost: a\r\n\r\n'), /edition 6$/);
  const shown = JSON.parse(
    (await exchange(t, admin, 'GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n')).split('\r\n\r\n')[1],
  );
  t.equal(shown.config.routes.length, ROUTES);
  t.match(shown.config.routes[0], { name: 'edition', respond: { body: 'edition 6' } });
  t.equal(shown.lastRejected, null);

  load.stop();
  const answers = await load.done;
  t.ok(answers.length > 20, `${answers.length} requests`);
  t.strictSame(
    answers.filter(({ status }) => status !== 200),
    [],
  );
  running.child.kill('SIGTERM');
  running.child.kill('SIGINT');
  t.not((await running.exit).code, null, 'the thread keeps no process from its end');
  t.ok(readFileSync(running.file, 'utf8').length > 32 * 1024, 'large');
});

// A mesh of processes under load: certificates rotate, the CA is killed and comes back, its root changes, and nobody notices.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openLoad } from '../support/open-load.ts';
import { CaProcess } from './support/mesh/ca.ts';
import { startMesh } from './support/mesh/mesh.ts';
import { RecordReader } from './support/mesh/tls-tap.ts';
import { eventually } from './support/sockets.ts';

t.test('no request fails while certificates rotate, the CA is killed and another root begins to issue', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-mesh-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const ca = await CaProcess.make(t, dir, 16);
  const [before] = ca.roots;
  // Begun a day ago, all but these seconds: whoever joins now knows both roots, and the new one issues when certificates are due.
  const issuesAt = Date.now() + 10_000;
  await ca.roll(10);
  await ca.start();
  const mesh = await startMesh(t, dir, { services: { frontend: ['catalog'], catalog: [] }, tapped: 'catalog', ca });
  // On a machine that took so long, the new root issues already.
  if (Date.now() < issuesAt)
    t.ok(await mesh.shows('catalog', before.toString()), 'at first, certificates of the old root');
  const load = openLoad({ port: mesh.port, rate: 50, seconds: 60, postShare: 0.5 });
  t.teardown(() => load.stop());

  await pause(issuesAt - Date.now());
  await ca.kill();
  await pause(800);
  await ca.start();
  const after = ca.roots.find((root) => !root.raw.equals(before.raw));
  if (after === undefined) throw new Error('there is no new root');
  const backAt = Date.now();
  const renewed = (): boolean =>
    [...mesh.processes.keys()].every((name) => ca.issued.some((one) => one.name === name && one.atMs > backAt));
  await eventually(renewed, 'everybody has a certificate of the new root', 20_000);
  await load.until(load.elapsedMs + 1_000);
  load.stop();
  const answers = await load.done;
  const failures = answers.filter(({ status }) => status !== 200);
  t.ok(answers.length > 100, `${answers.length} requests`);
  t.strictSame(failures, [], `complaints: ${mesh.complaints.join('\n')}`);
  for (const service of ['frontend', 'catalog']) {
    t.ok(await mesh.shows(service, after.toString()), `${service} is of the new root`);
    t.notOk(await mesh.shows(service, before.toString()));
  }
  t.strictSame(mesh.tap.problems, [], 'only TLS records between hops');
  t.ok(mesh.tap.data > answers.length, `${mesh.tap.data} records`);
  await mesh.stop();
});

t.test('whoever reads along tells TLS from what is not, wherever the reads end', async (t) => {
  const records = Buffer.from('16030300021234170303000155', 'hex');
  for (const size of [1, 2, 5, 6, 13]) {
    const reader = new RecordReader();
    for (let at = 0; at < records.length; at += size) reader.read(records.subarray(at, at + size));
    t.match(reader, { problem: null, records: 2, data: 1 }, `${size} octets at once`);
    reader.read(Buffer.from('GET / HTTP/1.1'));
    t.match(reader.problem, /no TLS record begins with 474554202f/);
  }
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

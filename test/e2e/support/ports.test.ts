import t from 'tap';
import { freePort } from './ports.ts';

t.test('ports that are closed meanwhile are not given twice', async (t) => {
  const ports: number[] = [];
  for (let index = 0; index < 100; index++) ports.push(await freePort());
  t.equal(new Set(ports).size, ports.length);
  t.ok(ports.every((port) => port >= 20_000 && port < 32_000));
});

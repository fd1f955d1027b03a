// What a connection keeps while nothing happens on it: thousands of them are open at a gateway at any time.
import { setTimeout as wait } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { openListener } from '../support/open-listener.ts';
import { RawClient } from '../support/raw-client.ts';

setFlagsFromString('--expose-gc');
/** A full garbage collection: what is left afterwards is held by something. */
const collect = runInNewContext('gc') as () => void;

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

t.test('holds neither the request nor the response that are over', async (t) => {
  const { sink, port } = await openListener(t);
  const { handler } = sink;
  const seen: WeakRef<object>[] = [];
  sink.handler = (req, res, connection) => {
    seen.push(new WeakRef(req), new WeakRef(res));
    handler(req, res, connection);
  };
  const client = await RawClient.open(t, port);
  await client.send(GET).until('served');
  await wait(20);
  collect();
  t.equal(seen.length, 2);
  t.strictSame(
    seen.map((held) => held.deref() === undefined),
    [true, true],
  );
  t.equal(client.ended, null);
});

t.test('a drain closes one that has been served, and leaves one that has asked nothing yet', async (t) => {
  const { listener, port } = await openListener(t);
  const served = await RawClient.open(t, port);
  const fresh = await RawClient.open(t, port);
  await served.send(GET).until('served');
  // Its response is closed by now, and forgotten.
  await wait(20);
  listener.drain();
  await served.until(() => false);
  t.equal(served.ended, 'end');
  t.match(await fresh.send(GET).until('served'), /\r\nconnection: close\r\n/i);
});

t.test('a malformed request on one that has been served is answered', async (t) => {
  const { port } = await openListener(t);
  const client = await RawClient.open(t, port);
  await client.send(GET).until('served');
  await wait(20);
  t.match(await client.send('GET / HTTP/1.1\r\nno header\r\n\r\n').until('SLV_BAD_REQUEST'), / 400 /);
});

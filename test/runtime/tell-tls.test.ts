// What the first octet of a connection says, and what it means that none comes.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { tellTls } from '../../src/runtime/tell-tls.ts';

/** The accepted end of a connection, and the end that connected. */
async function pair(t: Test): Promise<{ near: Socket; far: Socket }> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const far = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [near] = (await once(server, 'connection')) as [Socket];
  t.teardown(() => {
    near.destroy();
    far.destroy();
    server.close();
  });
  return { near, far };
}

for (const [what, first, expected] of [
  ['a ClientHello', Buffer.of(0x16, 3, 1), true],
  ['anything else', Buffer.from('GET'), false],
] as const) {
  t.test(`${what} is told, and put back`, async (t) => {
    const { near, far } = await pair(t);
    const told = new Promise<boolean>((resolve) => tellTls(near, resolve, 10_000));
    far.write(first);
    t.equal(await told, expected);
    const [chunk] = await once(near, 'data');
    t.ok(first.equals(chunk));
  });
}

t.test('who says nothing for long enough is not of TLS, and may still speak', async (t) => {
  const { near, far } = await pair(t);
  t.equal(await new Promise<boolean>((resolve) => tellTls(near, resolve, 1)), false);
  far.write('hello');
  const [chunk] = await once(near, 'data');
  t.equal(String(chunk), 'hello');
});

t.test('nothing is told of a connection that closes before', async (t) => {
  const { near, far } = await pair(t);
  tellTls(near, () => t.fail('told'), 1_000);
  far.destroy();
  near.on('end', () => near.destroy());
  await once(near, 'close');
});

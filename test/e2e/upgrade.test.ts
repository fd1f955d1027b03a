import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { edgeTo, run } from './support/gateway.ts';
import { closedPort, eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

const HANDSHAKE =
  'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

t.test('a WebSocket passes with headers, subprotocol and messages of any size', async (t) => {
  const seen: Record<string, unknown>[] = [];
  const { port, server } = await httpUpstream(t, (_req, res) => res.end());
  const sockets = new WebSocketServer({ server });
  t.teardown(() => sockets.close());
  sockets.on('connection', (socket, request) => {
    seen.push({ ...request.headers });
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  const edge = await run(t, edgeTo([port]));
  const client = new WebSocket(`ws://127.0.0.1:${edge.port}/ws`, ['chat', 'other'], {
    headers: { authorization: 'Bearer x', cookie: 'a=b' },
  });
  await new Promise((resolve, reject) => client.once('open', resolve).once('error', reject));
  t.equal(client.protocol, 'chat');
  const large = Buffer.alloc(5 << 20, 7);
  client.send(large);
  const echoed = await new Promise<Buffer>((resolve) => client.once('message', (data) => resolve(data as Buffer)));
  t.ok(large.equals(echoed));
  t.match(seen[0], { authorization: 'Bearer x', cookie: 'a=b', 'x-forwarded-for': '127.0.0.1' });
  t.equal(edge.selvedge.status.inFlight, 1, 'an open socket counts as in flight');
  client.close();
  await eventually(() => edge.selvedge.status.inFlight === 0, 'the closed socket is over');
});

t.test('a refusal of the upstream is an ordinary response', async (t) => {
  const { port } = await rawUpstream(t, (socket) =>
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nstop'),
  );
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  const response = await client.send(HANDSHAKE).closed();
  t.equal(statusOf(response), 403);
  t.match(response, /stop$/);
  await eventually(() => edge.selvedge.status.inFlight === 0, 'nothing is in flight');
});

t.test('an upgrade to a dead upstream is 502, not an opened socket', async (t) => {
  const edge = await run(t, edgeTo([await closedPort()]));
  const client = await RawClient.open(t, edge.port);
  const response = await client.send(HANDSHAKE).closed();
  t.equal(statusOf(response), 502);
  t.match(response, /SLV_UPSTREAM_REFUSED/);
});

t.test('a client that pauses a WebSocket holds the upstream back', async (t) => {
  const { port, server } = await httpUpstream(t, (_req, res) => res.end());
  const sockets = new WebSocketServer({ server });
  t.teardown(() => sockets.close());
  let sent = 0;
  sockets.on('connection', (socket) => {
    const chunk = Buffer.alloc(65_536);
    const more = (): void => {
      if (sent >= 512 << 20) return;
      sent += chunk.length;
      socket.send(chunk, (error) => {
        if (error === undefined || error === null) more();
      });
    };
    more();
  });
  const edge = await run(t, edgeTo([port]));
  const client = await RawClient.open(t, edge.port);
  client.send(HANDSHAKE);
  await client.until((text) => text.includes('\r\n\r\n'));
  client.socket.pause();
  let before = -1;
  await eventually(() => {
    const still = sent === before;
    before = sent;
    return still;
  }, 'the upstream stands still');
  t.ok(sent < 64 << 20, `${sent} bytes left the upstream while nobody read`);
});

t.test('either side closing closes the other', async (t) => {
  for (const side of ['client', 'upstream'] as const) {
    const { port, sockets } = await rawUpstream(t, (socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\nfirst',
      );
      if (side === 'upstream') setTimeout(() => socket.destroy(), 20);
    });
    const edge = await run(t, edgeTo([port]));
    const client = await RawClient.open(t, edge.port);
    t.match(
      await client.send(HANDSHAKE).until((text) => text.endsWith('first')),
      /^HTTP\/1\.1 101[\s\S]*sec-websocket-accept: x/i,
    );
    if (side === 'client') client.socket.destroy();
    else await client.closed();
    await eventually(
      () => sockets.size === 0 && edge.selvedge.status.inFlight === 0,
      `${side} closed, so did the other`,
    );
  }
  t.pass();
});

t.test('a tunnel on which nothing moves is closed after the idle timeout', async (t) => {
  const { port } = await rawUpstream(t, (socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n'),
  );
  const edge = await run(t, edgeTo([port], { route: { timeout: { idle: '100ms' } } }));
  const client = await RawClient.open(t, edge.port);
  await client.send(HANDSHAKE).closed();
  t.match(client.received, /^HTTP\/1\.1 101/);
});

t.test('the same chain guards upgrades', async (t) => {
  let upgrades = 0;
  const { port } = await rawUpstream(t, (socket) => {
    upgrades++;
    socket.destroy();
  });
  const edge = await run(
    t,
    edgeTo([port], { route: { plugins: [new URL('./support/deny-plugin.ts', import.meta.url).pathname] } }),
  );
  const response = await (await RawClient.open(t, edge.port)).send(HANDSHAKE).closed();
  t.equal(statusOf(response), 403);
  t.equal(upgrades, 0);
});

t.test('an offer of h2c is ignored: the request is an ordinary one', async (t) => {
  const { port } = await httpUpstream(t, (req, res) => res.end(String(req.headers.upgrade)));
  const edge = await run(t, edgeTo([port]));
  const response = await exchange(
    t,
    edge.port,
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
  );
  t.equal(statusOf(response), 200);
  t.match(response, /undefined$/);
});

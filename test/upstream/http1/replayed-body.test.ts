// A body that is kept for another try, between a real client and real connections to an endpoint.
import { createHash, randomBytes } from 'node:crypto';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { ReplayBody } from '../../../src/http/replay-body.ts';
import { setUp } from './raw-upstream.ts';

/** A request that has come from a real client, and the client's side of it. */
async function arriving(t: Test, headers: Record<string, string> = {}) {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const client = httpRequest({ host: '127.0.0.1', port, method: 'PUT', headers });
  client.on('error', () => undefined);
  client.flushHeaders();
  const incoming = await new Promise<IncomingMessage>((resolve) => server.once('request', resolve));
  t.teardown(() => {
    client.destroy();
    server.closeAllConnections();
    return new Promise((closed) => server.close(closed));
  });
  return { client, incoming };
}

t.test('a second try sends the same bytes and trailers after the first connection broke in the middle', async (t) => {
  const { upstream, send } = await setUp(t);
  const { client, incoming } = await arriving(t, { trailer: 'x-sum' });
  const body = new ReplayBody(incoming, 1_000);

  const reader = body.open();
  const first = send({ method: 'PUT', body: reader });
  const broken = await upstream.next();
  client.write('hello ');
  await broken.until('hello ');
  broken.socket.destroy();
  t.match((await first.over).error, { code: 'SLV_UPSTREAM_RESET' });
  t.notOk(incoming.destroyed, 'the client is not made to pay for it');

  const second = send({ method: 'PUT', body: body.open() });
  const connection = await upstream.next();
  t.match(await connection.until('hello '), /chunked\r\n\r\n6\r\nhello $/);
  client.addTrailers({ 'x-sum': '1' });
  client.end('world');
  t.equal(await connection.until('x-sum: 1\r\n\r\n'), '\r\n5\r\nworld\r\n0\r\nx-sum: 1\r\n\r\n');
  connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  t.match(await second.over, { status: 200, error: null });
  t.equal(body.whole?.toString(), 'hello world');
  const third = send({ method: 'PUT', body: body.open() });
  t.match(await connection.until('x-sum: 1\r\n\r\n'), /\r\nb\r\nhello world\r\n0\r\nx-sum: 1\r\n\r\n$/);
  connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  t.match(await third.over, { status: 200, error: null }, 'and once more, long after its end');
});

t.test('a client that leaves takes the try with it', async (t) => {
  const { upstream, send } = await setUp(t);
  const { client, incoming } = await arriving(t, { 'content-length': '10' });
  const body = new ReplayBody(incoming, 1_000);
  const recorder = send({ method: 'PUT', body: body.open(), contentLength: 10 });
  const connection = await upstream.next();
  client.write('hello');
  await connection.until('hello');
  client.destroy();
  t.match((await recorder.over).error, { code: 'SLV_CLIENT_ABORTED' });
  await connection.closed;
});

t.test('a body far beyond the limit passes whole, and a slow endpoint holds the client back', async (t) => {
  const { upstream, send } = await setUp(t);
  const { client, incoming } = await arriving(t);
  const body = new ReplayBody(incoming, 65_536);
  const recorder = send({ method: 'PUT', body: body.open() });
  const connection = await upstream.next();
  connection.socket.removeAllListeners('data');
  connection.socket.pause();

  const total = 64 << 20;
  const block = randomBytes(1 << 20);
  const sent = createHash('sha256');
  let written = 0;
  const write = (): void => {
    while (written < total) {
      written += block.length;
      sent.update(block);
      if (!client.write(block)) return void client.once('drain', write);
    }
    client.end();
  };
  write();
  // What fits into socket buffers on the way, in whatever sizes this kernel has them.
  for (let still = 0, last = -1; still < 20; still = written === last ? still + 1 : 0) {
    last = written;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.ok(written < total, `${written} bytes left the client`);
  t.notOk(body.replayable);

  const received = createHash('sha256');
  let wire = Buffer.alloc(0);
  let head = true;
  await new Promise<void>((resolve) => {
    connection.socket.on('data', (data: Buffer) => {
      wire = Buffer.concat([wire, data]);
      if (head) {
        const end = wire.indexOf('\r\n\r\n');
        if (end < 0) return;
        head = false;
        wire = wire.subarray(end + 4);
      }
      for (;;) {
        const line = wire.indexOf('\r\n');
        if (line < 0) return;
        const length = Number.parseInt(wire.subarray(0, line).toString(), 16);
        if (wire.length < line + 2 + length + 2) return;
        if (length === 0) return resolve();
        received.update(wire.subarray(line + 2, line + 2 + length));
        wire = wire.subarray(line + 2 + length + 2);
      }
    });
    connection.socket.resume();
  });
  connection.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  t.match(await recorder.over, { status: 200, error: null });
  t.equal(received.digest('hex'), sent.digest('hex'));
});

// Edits while requests are under way: nothing that was served before may notice.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { createServer } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { TestCa } from '../support/tls-fixture.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { eventually, exchange, httpUpstream, RawClient, rawUpstream, statusOf } from './support/sockets.ts';

type Json = Record<string, unknown>;

/** One gateway on `port`, one service `app`; what else is said replaces the parts. */
function config(port: number, endpoints: readonly number[], extra: Json = {}): Json {
  return {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    drain: { grace: '0s', timeout: '5s' },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: { app: { endpoints: endpoints.map((endpoint) => `127.0.0.1:${endpoint}`) } },
    routes: [{ name: 'all', to: 'app' }],
    ...extra,
  };
}

function configFile(t: Test, name = 'selvedge.json', others: Record<string, string> = {}): string {
  return `${t.testdir({ ...others })}/${name}`;
}

async function text(t: Test, port: number, path = '/'): Promise<string> {
  return exchange(t, port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
}

async function says(t: Test, word: string): Promise<number> {
  const { port, server } = await httpUpstream(t, (req, res) => req.resume().on('end', () => res.end(word)));
  server.keepAliveTimeout = 60_000;
  return port;
}

interface Load {
  readonly failures: string[];
  done: number;
  stop(): Promise<void>;
}

/** Clients that ask one after the other over kept connections, until told to stop. */
function underLoad(port: number, clients: number): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  let running = true;
  const load: Load = {
    failures: [],
    done: 0,
    async stop() {
      running = false;
      await Promise.all(loops);
      agent.destroy();
    },
  };
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const over = (failure: string | null): void => {
        load.done++;
        if (failure !== null) load.failures.push(failure);
        resolve();
      };
      get({ port, host: '127.0.0.1', path: `/x?n=${load.done}`, agent }, (res) => {
        let body = '';
        res.on('data', (chunk) => {
          body += chunk;
        });
        res.on('error', (error) => over(error.message));
        res.on('end', () => over(res.statusCode === 200 ? null : `${res.statusCode} ${body}`));
      }).on('error', (error) => over(error.message));
    });
  const loops = Array.from({ length: clients }, async () => {
    while (running) {
      await one();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  });
  return load;
}

const PLUGIN = `
import { definePlugin } from 'selvedge/plugin';
export default definePlugin({ name: 'counting' }, async (app) => {
  let own = 0;
  const shared = app.shared('counting.test', () => ({ count: 0 }));
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('x-own', String(++own)).header('x-shared', String(++shared.count));
  });
});
`;

t.test('twenty edits under load fail no request', async (t) => {
  const [one, two, port, second] = await Promise.all([says(t, 'one'), says(t, 'two'), freePort(), freePort()]);
  const file = configFile(t, 'selvedge.json', { 'counting.ts': PLUGIN });
  const running = await RunningProcess.start(t, file, config(port, [one]));
  const main = { name: 'http', host: '127.0.0.1', port };
  const versions = {
    endpoints: [
      { address: `127.0.0.1:${one}`, labels: { v: '1' } },
      { address: `127.0.0.1:${two}`, labels: { v: '2' } },
    ],
    subsets: { a: { v: '1' }, b: { v: '2' } },
  };
  const split = (a: number, b: number): Json => ({
    services: { app: versions },
    routes: [
      {
        name: 'all',
        to: [
          { service: 'app', subset: 'a', weight: a },
          { service: 'app', subset: 'b', weight: b },
        ],
      },
    ],
  });
  const edits: readonly Json[] = [
    {},
    {
      routes: [
        { name: 'all', to: 'app' },
        { name: 'x', match: [{ path: '/x' }], to: 'app', timeout: { request: '3s' } },
      ],
    },
    { routes: [{ name: 'x', match: [{ path: '/x' }], to: 'app', plugins: ['./counting.ts'] }] },
    {
      routes: [
        {
          name: 'x',
          match: [{ path: '/x' }],
          to: 'app',
          plugins: [{ 'request-headers': { set: { x: '1' } } }, './counting.ts'],
        },
      ],
    },
    { routes: [{ name: 'x', match: [{ path: '/x' }], respond: { status: 200, body: 'here' } }] },
    split(90, 10),
    split(10, 90),
    split(0, 1),
    { services: { app: { endpoints: [`127.0.0.1:${two}`] } } },
    { services: { app: { endpoints: [`127.0.0.1:${one}`, `127.0.0.1:${two}`], loadBalancing: 'round-robin' } } },
    { services: { app: { endpoints: [`127.0.0.1:${one}`], connections: { max: 7, idleTimeout: '2s' } } } },
    { gateways: { edge: { listeners: [main, { ...main, name: 'second', port: second }] } } },
    {
      gateways: { edge: { listeners: [main, { ...main, name: 'second', port: second, limits: { headerCount: 50 } }] } },
    },
    { gateways: { edge: { listeners: [main] } } },
    {
      gateways: {
        edge: {
          listeners: [{ ...main, limits: { keepAliveTimeout: '30s', connections: 500 } }],
          plugins: ['./counting.ts'],
        },
      },
    },
    { gateways: { edge: { listeners: [{ ...main, name: 'renamed' }] } } },
    { gateways: { other: { listeners: [main] } } },
    {},
    { telemetry: { accessLog: { sample: '1%' } } },
    {},
  ];
  const load = underLoad(port, 8);
  await eventually(() => load.done > 50, 'the load runs');
  for (const [index, edit] of edits.entries()) {
    const before = load.done;
    const listed = JSON.stringify({
      ...config(port, [one], edit),
      telemetry: edit.telemetry ?? { accessLog: { fields: { edit: String(index) }, sample: '0%' } },
    });
    await running.edit(listed);
    await eventually(() => load.done > before + 10 || load.failures.length > 20, 'requests go on');
  }
  await load.stop();
  t.same(load.failures, [], `none of ${load.done} requests failed`);
  t.equal(running.count('config in force'), edits.length + 1);
});

t.test('an edit elsewhere: open streams, WebSockets, connections and plugin state go on', async (t) => {
  const word = await says(t, 'word');
  let feed = (_chunk: string): void => undefined;
  const { port: streaming, sockets } = await rawUpstream(t, (socket, head) => {
    if (/upgrade: websocket/i.test(head)) {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nopen');
      socket.on('data', (chunk) => socket.write(`echo ${chunk}`));
    } else {
      socket.write(
        'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n',
      );
      feed = (chunk) => socket.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
    }
  });
  const [port, pools] = [await freePort(), new Set<number>()];
  const counted = await httpUpstream(t, (req, res) => {
    pools.add(req.socket.remotePort as number);
    res.end('counted');
  });
  counted.server.keepAliveTimeout = 60_000;
  const whole = (elsewhere: Json): Json =>
    config(port, [word], {
      services: {
        app: { endpoints: [`127.0.0.1:${word}`] },
        stream: { endpoints: [`127.0.0.1:${streaming}`] },
        counted: { endpoints: [`127.0.0.1:${counted.port}`] },
      },
      routes: [
        { name: 'all', to: 'app', ...elsewhere },
        { name: 'stream', match: [{ path: '/stream' }], to: 'stream' },
        { name: 'counted', match: [{ path: '/counted' }], to: 'counted', plugins: ['./counting.ts'] },
      ],
    });
  const running = await RunningProcess.start(t, configFile(t, 'selvedge.json', { 'counting.ts': PLUGIN }), whole({}));
  const [stream, socket, kept] = await Promise.all([
    RawClient.open(t, port),
    RawClient.open(t, port),
    RawClient.open(t, port),
  ]);
  stream.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
  await stream.until((received) => received.includes('first'));
  socket.send('GET /stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await socket.until((received) => received.endsWith('open'));
  const count = async (): Promise<RegExpMatchArray | null> => {
    const before = kept.received.length;
    kept.send('GET /counted HTTP/1.1\r\nHost: a\r\n\r\n');
    return (await kept.until((received) => received.slice(before).endsWith('counted')))
      .slice(before)
      .match(/x-own: (\d+)\r\nx-shared: (\d+)/);
  };
  t.match(await count(), { 1: '1', 2: '1' });
  for (const [index, elsewhere] of [
    { timeout: { request: '4s' } },
    { responseHeaders: { set: { a: 'b' } } },
    {},
  ].entries()) {
    await running.edit(whole(elsewhere));
    feed(`event${index}`);
    await stream.until((received) => received.includes(`event${index}`));
    const before = socket.received.length;
    socket.send(`ping${index}`);
    t.match(
      (await socket.until((received) => received.slice(before).endsWith(`ping${index}`))).slice(before),
      `echo ping${index}`,
    );
    t.match(await count(), { 1: String(index + 2), 2: String(index + 2) }, 'the plugin counts on');
  }
  t.equal(stream.ended, null);
  t.equal(pools.size, 1, 'the pool of an unchanged service is kept');
  t.equal(sockets.size, 2);
  const removed = whole({});
  (removed.routes as Json[]).pop();
  await running.edit(removed);
  await running.edit(whole({}));
  t.match(await count(), { 1: '1', 2: '1' }, 'state goes with its last user');
});

t.test('what was taken out of the config ends with its last request', async (t) => {
  const [word, port] = [await says(t, 'word'), await freePort()];
  let release = (): void => undefined;
  const { port: slow, sockets } = await rawUpstream(t, (socket) => {
    release = () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate');
  });
  const running = await RunningProcess.start(t, configFile(t), config(port, [slow]));
  const client = await RawClient.open(t, port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => sockets.size === 1, 'the request is under way');
  await running.edit(config(port, [word]));
  t.match(await text(t, port), /word$/);
  t.equal(sockets.size, 1, 'the old endpoint is still needed');
  release();
  t.match(await client.until((received) => received.endsWith('late')), /^HTTP\/1\.1 200/);
  await eventually(() => sockets.size === 0, 'and then its connection closes');
});

t.test('a bad edit, a taken port, a deleted file: the old config stays whole', async (t) => {
  const [word, port] = [await says(t, 'word'), await freePort()];
  const running = await RunningProcess.start(t, configFile(t), config(port, [word]));
  const kept = await RawClient.open(t, port);
  const goesOn = async (why: string): Promise<void> => {
    const before = kept.received.length;
    kept.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    t.match(
      (await kept.until((received) => received.slice(before).endsWith('word'))).slice(before),
      /^HTTP\/1\.1 200/,
      `${why}: on a kept connection`,
    );
    t.match(await text(t, port), /word$/, `${why}: on a new one`);
  };
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const { port: foreign } = taken.address() as { port: number };
  const free = await freePort();
  const main = { name: 'http', host: '127.0.0.1', port };
  const bad: readonly (readonly [name: string, config: unknown, problem: RegExp])[] = [
    ['not JSON', '{ "version": 1, ', /selvedge\.json:1:/],
    ['empty', '', /selvedge\.json/],
    ['an unknown service', config(port, [word], { routes: [{ name: 'all', to: 'ap' }] }), /did you mean "app"/],
    [
      'a plugin that is not there',
      config(port, [word], { routes: [{ name: 'all', to: 'app', plugins: ['./none.ts'] }] }),
      /none\.ts/,
    ],
    [
      'a taken port, beside a new one',
      config(port, [word], {
        gateways: {
          edge: { listeners: [main, { ...main, name: 'free', port: free }, { ...main, name: 'taken', port: foreign }] },
        },
      }),
      new RegExp(String(foreign)),
    ],
  ];
  for (const [name, edit, problem] of bad) {
    const before = running.lines.length;
    await running.spoil(edit);
    t.ok(
      running.lines.slice(before).some((line) => line.level >= 50 && problem.test(line.msg)),
      `${name}: the log says what is wrong`,
    );
    await goesOn(name);
  }
  t.equal(
    await RawClient.open(t, free).then(
      () => 'open',
      (error) => error.code,
    ),
    'ECONNREFUSED',
    'nothing of a refused config is left open',
  );
  await running.after('config rejected: the one in force stays', () => rmSync(running.file));
  await goesOn('a deleted file');
  const other = await says(t, 'other');
  await running.edit(config(port, [other]));
  t.match(await text(t, port), /other$/, 'a good one is taken up again');
  await running.after('config in force', () => running.child.kill('SIGHUP'));
  t.equal(running.lines.findLast((line) => line.msg === 'config in force')?.reason, 'SIGHUP');
});

t.test('certificates rotate on disk: connections go on, new ones get the new one', async (t) => {
  const [ca, word, port] = [new TestCa(t), await says(t, 'word'), await freePort()];
  const file = configFile(t, 'selvedge.json', { 'edge.crt': '', 'edge.key': '' });
  const dir = file.slice(0, file.lastIndexOf('/'));
  const install = (issued: { readonly cert: string; readonly key: string }): void => {
    writeFileSync(`${dir}/edge.key`, readFileSync(issued.key));
    writeFileSync(`${dir}/edge.crt`, readFileSync(issued.cert));
  };
  const first = ca.issue({ name: 'first', altNames: ['DNS:shop.test'] });
  const second = ca.issue({ name: 'second', altNames: ['DNS:shop.test'] });
  install(first);
  const tls = { certificates: [{ cert: 'edge.crt', key: 'edge.key' }] };
  const running = await RunningProcess.start(
    t,
    file,
    config(port, [word], { gateways: { edge: { listeners: [{ name: 'https', host: '127.0.0.1', port, tls }] } } }),
  );
  const dial = async (): Promise<TLSSocket> => {
    const socket = connect({ port, host: '127.0.0.1', servername: 'shop.test', ca: ca.pem });
    t.teardown(() => socket.destroy());
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    return socket;
  };
  const ask = (socket: TLSSocket): Promise<string> =>
    new Promise((resolve, reject) => {
      let received = '';
      socket.once('error', reject);
      const read = (chunk: Buffer): void => {
        received += chunk;
        if (!received.endsWith('word')) return;
        socket.off('data', read);
        resolve(received);
      };
      socket.on('data', read).write('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    });
  const old = await dial();
  t.equal(old.getPeerCertificate().subject.CN, 'first');
  t.equal(statusOf(await ask(old)), 200);
  await running.after('certificates rotated', () => install(second));
  t.equal(statusOf(await ask(old)), 200, 'the open connection goes on');
  const fresh = await dial();
  t.equal(fresh.getPeerCertificate().subject.CN, 'second');
  t.equal(statusOf(await ask(fresh)), 200);
  await running.after('config rejected: the one in force stays', () =>
    writeFileSync(`${dir}/edge.crt`, 'not a certificate'),
  );
  t.equal((await dial()).getPeerCertificate().subject.CN, 'second', 'a broken one is not taken up');
});

t.test('SIGTERM: what is in flight finishes, nothing new is accepted, exit 0', async (t) => {
  const port = await freePort();
  let release = (): void => undefined;
  const { port: slow, sockets } = await rawUpstream(t, (socket) => {
    release = () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate');
  });
  const running = await RunningProcess.start(t, configFile(t), config(port, [slow]));
  const [client, idle] = await Promise.all([RawClient.open(t, port), RawClient.open(t, port)]);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => sockets.size === 1, 'the request is under way');
  await running.after('draining', () => running.child.kill('SIGTERM'));
  const refused = (): Promise<boolean> =>
    RawClient.open(t, port).then(
      (late) => {
        late.socket.destroy();
        return false;
      },
      () => true,
    );
  for (let tries = 0; !(await refused()); tries++) {
    if (tries > 200) throw new Error('still accepting');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.notOk(running.exited, 'it waits for the request');
  release();
  t.match(await client.closed(), /^HTTP\/1\.1 200 [\s\S]*\r\nconnection: close\r\n[\s\S]*late$/i);
  idle.socket.end();
  t.same(await running.exit, { code: 0, signal: null });
});

t.test('a second SIGTERM ends at once', async (t) => {
  const port = await freePort();
  const { port: slow, sockets } = await rawUpstream(t, () => undefined);
  const running = await RunningProcess.start(
    t,
    configFile(t),
    config(port, [slow], { drain: { grace: '0s', timeout: '60s' } }),
  );
  const client = await RawClient.open(t, port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => sockets.size === 1, 'the request is under way');
  await running.after('draining', () => running.child.kill('SIGTERM'));
  running.child.kill('SIGTERM');
  t.same(await running.exit, { code: 143, signal: null });
  await client.closed();
});

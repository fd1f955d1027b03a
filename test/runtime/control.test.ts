import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { checkConfig } from '../../src/cli/check-config.ts';
import { type ConfigError, createSelvedge, formatProblem, type Selvedge } from '../../src/index.ts';
import { Gate } from '../../src/runtime/gate.ts';
import type { RequestSink } from '../../src/runtime/listener-spec.ts';
import { closedPort, eventually, httpUpstream, RawClient } from '../e2e/support/sockets.ts';
import { TestCa } from '../support/tls-fixture.ts';

interface Edit {
  readonly port?: number;
  readonly listeners?: readonly object[];
  readonly answer?: string;
  readonly admin?: unknown;
  readonly upstream?: number;
  readonly drain?: object;
}

/** A gateway that answers `answer` itself, or forwards to `upstream`. JSON is YAML. */
function configText({ port = 0, listeners, answer = 'one', admin = false, upstream, drain = {} }: Edit): string {
  const action = upstream === undefined ? { respond: { status: 200, body: answer } } : { to: [{ service: 'app' }] };
  return JSON.stringify({
    version: 1,
    admin,
    drain: { grace: '0s', ...drain },
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: listeners ?? [{ name: 'http', host: '127.0.0.1', port }] } },
    services: upstream === undefined ? {} : { app: { endpoints: [`127.0.0.1:${upstream}`] } },
    routes: [{ name: 'all', ...action }],
  });
}

interface Running {
  readonly selvedge: Selvedge;
  readonly path: string;
  readonly lines: { readonly level: number; readonly msg: string }[];
  edit(edit: Edit | string): void;
  url(listener?: string): string;
}

async function start(t: Test, edit: Edit = {}, watch = false): Promise<Running> {
  const path = join(t.testdir({ 'selvedge.yaml': configText(edit) }), 'selvedge.yaml');
  const lines: Running['lines'] = [];
  const logger = pino({}, { write: (line) => void lines.push(JSON.parse(line)) });
  const selvedge = await createSelvedge({ config: path, logger, watch });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  return {
    selvedge,
    path,
    lines,
    edit: (next) => writeFileSync(path, typeof next === 'string' ? next : configText(next)),
    url: (listener = 'http') => `http://127.0.0.1:${selvedge.addresses()[`gateway/edge/${listener}`].port}`,
  };
}

async function text(url: string): Promise<string> {
  return (await fetch(url)).text();
}

/** The status and body of one request on a connection of its own, or of the agent's. */
function ask(url: string, agent?: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { agent: agent ?? false }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve(`${response.statusCode} ${body}`));
      response.on('error', reject);
    }).on('error', reject);
  });
}

async function metric({ registry }: Selvedge, name: string): Promise<number> {
  const { values } = await registry.getSingleMetric(name)!.get();
  return values[0].value;
}

t.test('edits under load fail no request, on kept and on new connections', async (t) => {
  const { port } = await httpUpstream(t, (_req, res) => res.end('forwarded'));
  const { selvedge, edit, url } = await start(t);
  const target = url();
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  t.teardown(() => agent.destroy());
  let loading = true;
  const answers = new Map<string, number>();
  const load = async (own?: Agent): Promise<void> => {
    while (loading) {
      const answer = await ask(target, own);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
  };
  const loads = [...Array.from({ length: 4 }, () => load(agent)), ...Array.from({ length: 2 }, () => load())];
  for (let round = 1; round <= 20; round++) {
    edit(round % 2 === 0 ? { answer: `answer ${round}` } : { upstream: port });
    t.match(await selvedge.reload(), { applied: true, revision: round + 1 });
    await ask(target);
  }
  loading = false;
  await Promise.all(loads);
  t.same(
    [...answers.keys()].filter((answer) => !/^200 (one|forwarded|answer \d+)$/.test(answer)),
    [],
  );
  t.ok(answers.size > 5, 'the load saw many of the configs');
});

t.test('a bad edit keeps the old config whole, and says everything that is wrong with the new one', async (t) => {
  const { selvedge, edit, lines, url } = await start(t);
  const before = selvedge.addresses();
  edit(`version: 1\nadmin: false\ngatewys: {}\ngateways: { edge: { listeners: [{ name: http, port: 99999 }] } }\n`);
  const outcome = await selvedge.reload();
  t.match(outcome, { applied: false, revision: 1 });
  t.ok(outcome.problems.length >= 2, 'all problems at once');
  t.equal(await text(url()), 'one');
  t.same(selvedge.addresses(), before);
  t.match(selvedge.status.lastRejected, { reason: 'asked', problems: outcome.problems });
  const errors = lines.filter(({ level }) => level === 50).map(({ msg }) => msg);
  for (const { message } of outcome.problems)
    t.ok(
      errors.some((line) => line.includes(message)),
      message,
    );
  t.equal(await metric(selvedge, 'selvedge_config_rejected_total'), 1);
  t.equal(await metric(selvedge, 'selvedge_config_revision'), 1);

  edit({ answer: 'two' });
  t.match(await selvedge.reload(), { applied: true, revision: 2, problems: [] });
  t.equal(await text(url()), 'two');
  t.equal(selvedge.status.lastRejected, null);
  t.equal(await metric(selvedge, 'selvedge_config_revision'), 2);
});

t.test('what only compiling finds is a rejected reload too', async (t) => {
  const { selvedge, edit, url } = await start(t);
  edit(configText({}).replace('"routes":[{', '"routes":[{"plugins":["./missing.ts"],'));
  const outcome = await selvedge.reload();
  t.match(outcome.problems, [{ severity: 'error', message: /missing\.ts/, place: { file: /selvedge\.yaml/ } }]);
  t.equal(await text(url()), 'one');
});

t.test('a wrong plugin option has its place and path alike in a check, a start and a reload', async (t) => {
  const { selvedge, edit, path } = await start(t);
  const wrong = [
    configText({}).replace('"routes":[{', '"routes":[{"plugins":["request-id",{"body-limit":{"max":"much"}}],'),
    configText({}).replace('"edge":{', '"edge":{"plugins":[{"header-routing":{"rules":[{"header":"x","to":{}}]}}],'),
  ];
  const expected = [
    /^\S+selvedge\.yaml:1:\d+ routes\[0\]\.plugins\[1\]\.max: /,
    /^\S+:1:\d+ gateways\.edge\.plugins\[0\]\.rules\[0\]/,
  ];
  for (const [index, text] of wrong.entries()) {
    edit(text);
    const checked = (await checkConfig(path)).problems.map(formatProblem);
    t.match(checked, [expected[index]]);
    t.strictSame((await selvedge.reload()).problems.map(formatProblem), checked);
    const fresh = await createSelvedge({ config: path, logger: false, watch: false });
    const failure = await fresh.start().catch((error) => error);
    t.strictSame((failure as ConfigError).problems.map(formatProblem), checked);
  }
});

t.test('a port that cannot be bound is a rejected reload: nothing of the new config stays', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => blocker.once('listening', resolve));
  t.teardown(() => blocker.close());
  const taken = (blocker.address() as { port: number }).port;
  const free = await closedPort();
  const { selvedge, edit, url } = await start(t);
  const listener = (name: string, port: number) => ({ name, host: '127.0.0.1', port });
  edit({ answer: 'two', listeners: [listener('http', 0), listener('free', free), listener('taken', taken)] });
  const outcome = await selvedge.reload();
  t.match(outcome, { applied: false, problems: [{ message: /cannot listen on 127\.0\.0\.1:\d+: the port is taken/ }] });
  t.equal(await text(url()), 'one');
  t.same(Object.keys(selvedge.addresses()), ['gateway/edge/http']);
  await t.rejects(
    ask(`http://127.0.0.1:${free}`),
    { code: 'ECONNREFUSED' },
    'the one that could be bound is closed again',
  );
});

t.test('a reload adds listeners, removes them once their requests ended, and leaves the others alone', async (t) => {
  let release = (): void => {};
  const arrived = new Promise<void>((resolve) => {
    release = resolve;
  });
  let answer = (): void => {};
  const { port } = await httpUpstream(t, (_req, res) => {
    answer = () => res.end('slow answer');
    release();
  });
  const http = { name: 'http', host: '127.0.0.1', port: 0 };
  const extra = { name: 'extra', host: '127.0.0.1', port: 0 };
  const { selvedge, edit, url } = await start(t, { upstream: port, listeners: [http] });
  const kept = selvedge.addresses();
  edit({ upstream: port, listeners: [http, extra] });
  await selvedge.reload();
  const extraUrl = url('extra');
  t.same(selvedge.addresses()['gateway/edge/http'], kept['gateway/edge/http']);
  const slow = ask(extraUrl);
  await arrived;
  edit({ upstream: port, listeners: [http] });
  await selvedge.reload();
  t.same(Object.keys(selvedge.addresses()), ['gateway/edge/http']);
  await t.rejects(ask(extraUrl), { code: 'ECONNREFUSED' });
  answer();
  t.equal(await slow, '200 slow answer');
});

t.test('a port changes hands within one reload: TLS is switched on, or a listener renamed', async (t) => {
  const port = await closedPort();
  const ca = new TestCa(t);
  const { cert, key } = ca.issue({ name: 'edge.test', altNames: ['DNS:edge.test'] });
  const plain = { name: 'http', host: '127.0.0.1', port };
  const { selvedge, edit, url } = await start(t, { listeners: [plain] });
  edit({ answer: 'renamed', listeners: [{ ...plain, name: 'web' }] });
  t.match(await selvedge.reload(), { applied: true });
  t.equal(await text(url('web')), 'renamed');
  edit({ answer: 'secret', listeners: [{ ...plain, name: 'web', tls: { certificates: [{ cert, key }] } }] });
  t.match(await selvedge.reload(), { applied: true, problems: [] });
  t.equal(await commonNameAt(t, port), 'edge.test');
  edit({ answer: 'wide', listeners: [{ ...plain, host: '0.0.0.0' }] });
  t.match(await selvedge.reload(), { applied: true, problems: [] });
  t.equal(await text(url()), 'wide');
});

t.test('a failed handover gives the port back', async (t) => {
  const port = await closedPort();
  const blocker = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => blocker.once('listening', resolve));
  t.teardown(() => blocker.close());
  const plain = { name: 'http', host: '127.0.0.1', port };
  const { selvedge, edit, url } = await start(t, { listeners: [plain], admin: { port: 0 } });
  edit({ listeners: [{ ...plain, host: '0.0.0.0' }], admin: { port: (blocker.address() as { port: number }).port } });
  t.match(await selvedge.reload(), {
    applied: false,
    problems: [{ path: 'admin.port', message: /the port is taken/, place: { line: 1 } }],
  });
  t.equal(await text(url()), 'one');
  t.match(selvedge.addresses(), { 'gateway/edge/http': { host: '127.0.0.1', port } });
  t.equal((await fetch(`http://127.0.0.1:${selvedge.adminAddress()!.port}/readyz`)).status, 200);
});

t.test('the admin server moves, and goes, with the config', async (t) => {
  const { selvedge, edit } = await start(t, { admin: { port: 0 } });
  const first = selvedge.adminAddress()!.port;
  const second = await closedPort();
  edit({ admin: { port: second } });
  t.match(await selvedge.reload(), { applied: true });
  t.match(await (await fetch(`http://127.0.0.1:${second}/livez`)).json(), { status: 'alive' });
  await t.rejects(ask(`http://127.0.0.1:${first}/livez`), { code: 'ECONNREFUSED' });
  edit({ admin: { host: '0.0.0.0', port: second } });
  t.match(await selvedge.reload(), { applied: true, problems: [] });
  t.match(selvedge.adminAddress(), { host: '0.0.0.0', port: second });
  edit({ admin: false });
  await selvedge.reload();
  t.equal(selvedge.adminAddress(), null);
  await t.rejects(ask(`http://127.0.0.1:${second}/livez`), { code: 'ECONNREFUSED' });
});

t.test('whoever asks while a reload runs shares the one after it', async (t) => {
  const { selvedge, edit, url } = await start(t);
  edit({ answer: 'two' });
  const first = selvedge.reload();
  edit({ answer: 'three' });
  const [second, third] = [selvedge.reload(), selvedge.reload()];
  t.equal(second, third);
  t.match([await first, await second], [{ revision: 2 }, { revision: 3 }]);
  t.equal(await text(url()), 'three');
});

t.test('a saved edit is in force without being asked for, and a broken one is rejected', async (t) => {
  const { selvedge, edit, url, path } = await start(t, {}, true);
  edit({ answer: 'two' });
  await eventually(() => selvedge.status.revision === 2, 'the edit is in force');
  t.equal(await text(url()), 'two');
  edit('version: [');
  await eventually(() => selvedge.status.lastRejected !== null, 'the broken edit is rejected');
  unlinkSync(path);
  await eventually(
    () => /no such file|cannot be read|no config/i.test(JSON.stringify(selvedge.status.lastRejected)),
    'so is its deletion',
  );
  t.equal(await text(url()), 'two', 'the old config goes on');
  edit({ answer: 'three' });
  await eventually(() => selvedge.status.lastRejected === null, 'the file is back');
  t.equal(await text(url()), 'three');
});

t.test('a Kubernetes ConfigMap swap is in force, each time', async (t) => {
  const dir = t.testdir({});
  const write = (version: number): void => {
    mkdirSync(join(dir, `..${version}`));
    writeFileSync(join(dir, `..${version}/selvedge.yaml`), configText({ answer: `map ${version}` }));
    symlinkSync(`..${version}`, join(dir, '..data_tmp'));
    renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
    rmSync(join(dir, `..${version - 1}`), { recursive: true, force: true });
  };
  write(1);
  symlinkSync('..data/selvedge.yaml', join(dir, 'selvedge.yaml'));
  const selvedge = await createSelvedge({ config: dir, logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const { port } = selvedge.addresses()['gateway/edge/http'];
  for (const version of [2, 3]) {
    write(version);
    await eventually(() => selvedge.status.revision === version, `swap ${version}`);
    t.equal(await text(`http://127.0.0.1:${port}`), `map ${version}`);
  }
});

t.test('new certificates are served without a new config; a broken one keeps the old', async (t) => {
  const ca = new TestCa(t);
  const { dir } = ca;
  const issue = (name: string): void => {
    const issued = ca.issue({ name, altNames: ['DNS:edge.test'] });
    renameSync(issued.key, join(dir, 'edge.key'));
    renameSync(issued.cert, join(dir, 'edge.crt'));
  };
  issue('first');
  const certificates = [{ cert: join(dir, 'edge.crt'), key: join(dir, 'edge.key') }];
  const { selvedge, lines } = await start(
    t,
    { listeners: [{ name: 'https', host: '127.0.0.1', port: 0, tls: { certificates } }] },
    true,
  );
  const { port } = selvedge.addresses()['gateway/edge/https'];
  t.equal(await commonNameAt(t, port), 'first');
  issue('second');
  await eventually(() => lines.some(({ msg }) => msg === 'certificates rotated'), 'the rotation');
  t.equal(await commonNameAt(t, port), 'second');
  t.equal(selvedge.status.revision, 1);
  writeFileSync(join(dir, 'edge.crt'), 'no certificate');
  await eventually(() => selvedge.status.lastRejected !== null, 'the rejection');
  t.equal(await commonNameAt(t, port), 'second');
});

t.test(
  'a WebSocket outlives a reload of its route, and is cut when its listener is gone and its time is up',
  async (t) => {
    const { port, server } = await httpUpstream(t, () => {});
    server.on('upgrade', (_req, socket) => {
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n');
      socket.on('data', (chunk: Buffer) => socket.write(`echo ${chunk}`));
    });
    const ws = { name: 'ws', host: '127.0.0.1', port: 0 };
    const http = { name: 'http', host: '127.0.0.1', port: 0 };
    const { selvedge, edit } = await start(t, { upstream: port, listeners: [http, ws] });
    const client = await RawClient.open(t, selvedge.addresses()['gateway/edge/ws'].port);
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    await client.until((received) => received.includes('101 '));
    edit({ answer: 'gone', listeners: [http, ws] });
    await selvedge.reload();
    await client.send('still there?').until((received) => received.includes('echo still there?'));
    t.match(client.received, /echo still there\?/);
    t.equal(selvedge.status.inFlight, 1);
    edit({ answer: 'gone', listeners: [http], drain: { timeout: '10ms' } });
    await selvedge.reload();
    await client.closed();
    await eventually(() => selvedge.status.inFlight === 0, 'nothing is in flight');
    t.ok(client.ended);
  },
);

t.test('what arrives on a listener before its config is in force waits for it', async (t) => {
  const entered: string[] = [];
  const sink = {
    request: (_connection: unknown, req: unknown) => void entered.push(`request ${req}`),
    upgrade: (_connection: unknown, req: unknown) => void entered.push(`upgrade ${req}`),
    connect: (_connection: unknown, req: unknown) => void entered.push(`connect ${req}`),
    accept: (arrival: unknown) => void entered.push(`accept ${arrival}`),
    rejected: (_listener: unknown, code: unknown) => void entered.push(`rejected ${code}`),
  } as RequestSink;
  const gate = new Gate(sink);
  const arrive = (name: string): void => {
    gate.request(null as never, name as never, null as never);
    gate.upgrade(null as never, name as never, null as never, null as never);
    gate.connect(null as never, name as never, null as never, null as never, null as never);
    gate.accept(name as never);
  };
  arrive('early');
  gate.rejected(null as never, 'SLV_BAD_REQUEST', '');
  t.same(entered, ['rejected SLV_BAD_REQUEST']);
  gate.open();
  arrive('late');
  t.same(entered.slice(1), [
    'request early',
    'upgrade early',
    'connect early',
    'accept early',
    'request late',
    'upgrade late',
    'connect late',
    'accept late',
  ]);
});

function commonNameAt(t: Test, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ port, host: '127.0.0.1', servername: 'edge.test', rejectUnauthorized: false }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on('error', reject);
    t.teardown(() => socket.destroy());
  });
}

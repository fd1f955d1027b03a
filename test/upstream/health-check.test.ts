import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import fc from 'fast-check';
import t from 'tap';
import type { HealthCheckPolicy, UpstreamTls } from '../../src/config/model.ts';
import { Endpoint, type MakeTransport } from '../../src/upstream/endpoint.ts';
import { grpcStatusName, healthRequest, servingStatus } from '../../src/upstream/health-check/grpc-message.ts';
import { type HealthCheck, startHealthCheck } from '../../src/upstream/health-check/health-check.ts';
import { connectionOptions, readCredentials } from '../../src/upstream/tls.ts';
import { http1Transport } from '../../src/upstream/transport.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import { FakeNetwork, NOBODY, seededRandom, serviceConfig, transportError } from '../support/fake-upstream.ts';
import { TestCa } from '../support/tls-fixture.ts';

const { connections } = serviceConfig([]);
const HTTP = { kind: 'http', path: '/healthz', host: null, statuses: [200] } as const;
const GRPC = { kind: 'grpc', service: '' } as const;
const POLICY: HealthCheckPolicy = {
  probe: HTTP,
  intervalMs: 3_000,
  timeoutMs: 1_000,
  unhealthyAfter: 3,
  healthyAfter: 2,
};

type Teardown = { teardown: (fn: () => unknown) => void };

interface Options {
  readonly policy?: Partial<HealthCheckPolicy>;
  readonly address?: string;
  readonly hop?: string | null;
  readonly tls?: UpstreamTls | null;
  readonly headers?: readonly string[];
  readonly random?: () => number;
  readonly makeTransport?: MakeTransport;
}

/** A check of one endpoint, its reports written down; without `makeTransport` over real sockets. Its time stands still. */
function setUp(t: Teardown, options: Options = {}) {
  const { address = 'a:1', hop = null, tls = null, headers, random = () => 0.5 } = options;
  const { clock, wheel } = fakeWheel();
  const makeTransport = options.makeTransport ?? http1Transport(wheel);
  const host = address.slice(0, address.lastIndexOf(':'));
  const connectionTls = tls === null ? null : connectionOptions(readCredentials(tls), host);
  const endpoint = new Endpoint(
    { address, hop, tls: connectionTls, connections, key: address, owner: NOBODY },
    makeTransport,
  );
  const reports: string[] = [];
  const check = startHealthCheck(
    endpoint,
    { ...POLICY, ...options.policy },
    { wheel, random, makeTransport, headers },
    (healthy, detail) => reports.push(`${healthy ? 'up' : 'down'}: ${detail}`),
  );
  t.teardown(() => check.stop());
  return { clock, wheel, endpoint, check, reports };
}

function onFakes(t: Teardown, options: Options = {}) {
  const network = new FakeNetwork();
  const rest = setUp(t, { makeTransport: network.makeTransport, ...options });
  const next = (status: number): void => {
    const count = network.exchanges.length;
    while (network.exchanges.length === count) rest.clock.advance(20);
    network.last.respond(status).end();
  };
  return { network, next, ...rest };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** The result of the check that is under way. */
async function result(check: HealthCheck) {
  const before = check.lastResult;
  while (check.lastResult === before) await turn();
  const { healthy, detail } = check.lastResult as NonNullable<HealthCheck['lastResult']>;
  return `${healthy ? 'ok' : 'failed'}: ${detail}`;
}

/** Listens on a free port; `sockets` are those that are open. Closing waits for every one of them. */
async function listen(t: Teardown, server: TcpServer) {
  const sockets = new Set<Socket>();
  const counts = { connections: 0 };
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    counts.connections += 1;
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const allClosed = async () => {
    while (sockets.size > 0) await turn();
  };
  return { port, address: `127.0.0.1:${port}`, sockets, counts, allClosed };
}

const listenHttp = (t: Teardown, listener: RequestListener, server: Server = createServer(listener)) =>
  listen(t, server as unknown as TcpServer);

/** Takes connections and says nothing. */
const silentServer = () => createTcpServer((socket) => void socket.resume());

async function deadAddress(): Promise<string> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

function upstreamTls(ca: string | null): UpstreamTls {
  return { serverName: 'up.test', ca, cert: null, key: null, verify: true };
}

t.test('scheduling', async (t) => {
  t.test('checks at once, and the first result is a verdict by itself', async (t) => {
    const { network, reports, check } = onFakes(t);
    t.equal(network.exchanges.length, 1);
    t.equal(check.verdict, null);
    network.last.respond(200).end();
    t.same(reports, ['up: status 200']);
    t.equal(check.verdict, true);

    const other = onFakes(t);
    other.network.last.fail(transportError('SLV_UPSTREAM_REFUSED'));
    t.same(other.reports, ['down: connection refused'], 'whatever unhealthyAfter says');
  });

  t.test('every interval from start to start, jittered by a tenth', async (t) => {
    const draws = [0, 0.9999, 0.5];
    const { network, clock } = onFakes(t, { random: () => draws.shift() as number });
    const starts: number[] = [];
    network.answer = () => starts.push(clock.now());
    for (const afterMs of [500, 0, 900]) {
      const count = network.exchanges.length;
      clock.advance(afterMs);
      network.last.respond(200).end();
      while (network.exchanges.length === count) clock.advance(20);
    }
    const [first, second, third] = starts;
    t.ok(first - 1_000 >= 2_700 && first - 1_000 <= 2_740, `${first}`);
    t.ok(second - first >= 3_299 && second - first <= 3_340, `${second - first}`);
    t.ok(third - second >= 3_000 && third - second <= 3_040, `${third - second}`);
  });

  t.test('intervals stay within their jitter, whatever is drawn and however long checks take', async (t) => {
    const property = fc.property(fc.integer(), fc.array(fc.nat(900), { maxLength: 20 }), (seed, tookMs) => {
      const { network, clock, check } = onFakes(t, { random: seededRandom(seed) });
      let startedAt = clock.now();
      for (const ms of tookMs) {
        clock.advance(ms);
        network.last.respond(200).end();
        const count = network.exchanges.length;
        while (network.exchanges.length === count) clock.advance(10);
        const betweenMs = clock.now() - startedAt;
        startedAt = clock.now();
        if (betweenMs < 2_700 || betweenMs > 3_350) return false;
      }
      check.stop();
      return true;
    });
    fc.assert(property, { numRuns: 50, seed: 7 });
  });

  t.test('a check that outlasts the interval is followed by the next, never overlapped', async (t) => {
    const { network, clock } = onFakes(t, { policy: { intervalMs: 1_000, timeoutMs: 5_000 } });
    clock.advance(4_000);
    t.equal(network.exchanges.length, 1);
    network.last.respond(200).end();
    clock.advance(40);
    t.equal(network.exchanges.length, 2);
    clock.advance(6_000);
    t.ok(network.exchanges[1].aborted);
    t.equal(network.exchanges.filter(({ over }) => !over).length, 1);
  });

  t.test('only so many failures in a row make it unhealthy, and so many successes healthy again', async (t) => {
    const { network, reports, next } = onFakes(t);
    network.last.respond(200).end();
    for (const status of [503, 503]) next(status);
    t.same(reports, ['up: status 200']);
    next(500);
    t.same(reports.slice(1), ['down: status 500']);
    next(503);
    next(200);
    t.equal(reports.length, 2);
    next(200);
    t.same(reports.slice(2), ['up: status 200']);
    next(200);
    t.equal(reports.length, 3, 'what has not changed is not told');
  });

  t.test('an endpoint that flaps keeps its verdict', async (t) => {
    const { network, reports, next, check } = onFakes(t);
    network.last.respond(200).end();
    for (let round = 0; round < 10; round++) for (const status of [503, 503, 200]) next(status);
    t.same(reports, ['up: status 200']);
    for (let round = 0; round < 3; round++) next(503);
    for (let round = 0; round < 10; round++) for (const status of [200, 503]) next(status);
    t.same(reports, ['up: status 200', 'down: status 503']);
    t.equal(check.verdict, false);
    t.match(check.lastResult, { healthy: false, detail: 'status 503' });
  });

  t.test('verdicts follow runs of results, as a plain count of them says', async (t) => {
    const property = fc.property(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      (results, unhealthyAfter, healthyAfter) => {
        const { network, reports, next, check } = onFakes(t, { policy: { unhealthyAfter, healthyAfter } });
        let verdict = results[0];
        const expected = [verdict];
        for (const [index, healthy] of results.entries()) {
          if (index === 0) network.last.respond(healthy ? 200 : 503).end();
          else next(healthy ? 200 : 503);
          const run = results.slice(Math.max(0, index + 1 - (healthy ? healthyAfter : unhealthyAfter)), index + 1);
          const full = run.length === (healthy ? healthyAfter : unhealthyAfter);
          if (healthy !== verdict && full && run.every((one) => one === healthy)) {
            verdict = healthy;
            expected.push(healthy);
          }
        }
        check.stop();
        return `${reports.map((report) => report.startsWith('up'))}` === `${expected}`;
      },
    );
    fc.assert(property, { numRuns: 100, seed: 11 });
  });

  t.test('an answer that does not come is a failure, and its connection is given up', async (t) => {
    const { network, clock, reports } = onFakes(t);
    clock.advance(980);
    t.same(reports, []);
    clock.advance(60);
    t.same(reports, ['down: timeout after 1000 ms']);
    t.ok(network.last.aborted);
    network.exchanges[0].respond(200).end();
    t.equal(reports.length, 1, 'what comes later is not looked at');
    clock.advance(3_000);
    t.equal(network.exchanges.length, 2, 'and the next check comes');
  });

  t.test('a body without end is a timeout too', async (t) => {
    const { network, clock, reports } = onFakes(t);
    network.last.respond(200).data('.');
    clock.advance(1_100);
    t.same(reports, ['down: timeout after 1000 ms']);
  });

  t.test('a check that fails on the spot is reported only when the caller has the handle', async (t) => {
    const { wheel } = fakeWheel();
    const network = new FakeNetwork();
    network.answer = (exchange) => exchange.fail(transportError('SLV_UPSTREAM_UNREACHABLE'));
    const { makeTransport } = network;
    const endpoint = new Endpoint(
      { address: 'a:1', hop: null, tls: null, connections, key: '', owner: NOBODY },
      makeTransport,
    );
    let handle: HealthCheck | null = null;
    const told = new Promise<unknown>((resolve) => {
      handle = startHealthCheck(endpoint, POLICY, { wheel, random: () => 0.5, makeTransport }, (...report) =>
        resolve([handle?.verdict, ...report]),
      );
    });
    t.same(await told, [false, false, 'host unreachable']);
    handle!.stop();
    t.equal(wheel.waiting, 0);
  });

  t.test('stop ends everything at once, a check under way or not', async (t) => {
    const { network, clock, wheel, reports, check } = onFakes(t);
    check.stop();
    t.ok(network.last.aborted);
    t.same(network.closed, ['a:1']);
    t.equal(wheel.waiting, 0);
    clock.advance(10_000);
    t.equal(network.exchanges.length, 1);
    t.same(reports, []);

    const between = onFakes(t);
    between.network.last.respond(200).end();
    between.check.stop();
    between.check.stop();
    t.equal(between.wheel.waiting, 0);
    t.equal(between.reports.length, 1);

    const onTheSpot = onFakes(t, {
      makeTransport: () => {
        throw new Error('no transport');
      },
    });
    onTheSpot.check.stop();
    await turn();
    t.same(onTheSpot.reports, []);
  });

  t.test('stopping from the report is fine', async (t) => {
    const { wheel } = fakeWheel();
    const network = new FakeNetwork();
    const { makeTransport } = network;
    const endpoint = new Endpoint(
      { address: 'a:1', hop: null, tls: null, connections, key: '', owner: NOBODY },
      makeTransport,
    );
    const check = startHealthCheck(endpoint, POLICY, { wheel, random: () => 0.5, makeTransport }, () => check.stop());
    network.last.respond(200).end();
    t.equal(wheel.waiting, 0);
  });
});

t.test('http', async (t) => {
  t.test(
    'asks on a connection of its own, kept between checks, for the path and with the name of its own',
    async (t) => {
      const seen: IncomingMessage[] = [];
      const { address, counts, sockets, allClosed } = await listenHttp(t, (request, response) => {
        seen.push(request);
        response.end('fine');
      });
      const { check, clock, endpoint } = setUp(t, { address });
      t.equal(await result(check), 'ok: status 200');
      clock.advance(3_100);
      t.equal(await result(check), 'ok: status 200');
      t.equal(counts.connections, 1);
      t.match(seen[1], { method: 'GET', url: '/healthz', headers: { 'user-agent': 'selvedge-health-check' } });
      t.equal(seen[1].headers.host, address);
      t.equal(endpoint.stats.connections, 0, 'the connections of traffic have no part in it');
      t.equal(endpoint.inFlight, 0);
      t.equal(sockets.size, 1);
      check.stop();
      await allClosed();
    },
  );

  t.test('a connection that the endpoint closed between two checks is no failure', async (t) => {
    const { address, sockets, allClosed, counts } = await listenHttp(t, (_request, response) => void response.end());
    const { check, clock } = setUp(t, { address });
    t.equal(await result(check), 'ok: status 200');
    for (const socket of sockets) socket.resetAndDestroy();
    await allClosed();
    clock.advance(3_100);
    t.equal(await result(check), 'ok: status 200');
    t.equal(counts.connections, 2);
  });

  t.test('says the host that the policy names', async (t) => {
    let host: string | undefined;
    const { address } = await listenHttp(t, (request, response) => {
      host = request.headers.host;
      response.end();
    });
    const { check } = setUp(t, { address, policy: { probe: { ...HTTP, host: 'shop.example.com' } } });
    t.equal(await result(check), 'ok: status 200');
    t.equal(host, 'shop.example.com');
  });

  t.test('goes through the hop, which is told which endpoint is meant', async (t) => {
    let headers: IncomingMessage['headers'] = {};
    const { address: hop } = await listenHttp(t, (request, response) => {
      headers = request.headers;
      response.end();
    });
    const { check } = setUp(t, { address: '192.0.2.1:3000', hop, headers: ['x-selvedge-endpoint', '192.0.2.1:3000'] });
    t.equal(await result(check), 'ok: status 200');
    t.match(headers, { host: '192.0.2.1:3000', 'x-selvedge-endpoint': '192.0.2.1:3000' });
  });

  t.test('only the statuses of the policy are healthy: a redirect is not, unless it is listed', async (t) => {
    let status = 200;
    const { address } = await listenHttp(t, (_request, response) =>
      response.writeHead(status, { location: '/login' }).end(),
    );
    const probe = { ...HTTP, statuses: [200, 204, 307] };
    const { check, clock } = setUp(t, { address, policy: { probe } });
    t.equal(await result(check), 'ok: status 200');
    const expected = { 204: 'ok', 301: 'failed', 302: 'failed', 307: 'ok', 404: 'failed', 503: 'failed' };
    for (const [next, outcome] of Object.entries(expected)) {
      status = Number(next);
      clock.advance(3_100);
      t.equal(await result(check), `${outcome}: status ${next}`);
    }
  });

  t.test('a wrong status decides, though its body never ends', async (t) => {
    const { address, allClosed } = await listenHttp(t, (_request, response) =>
      response.writeHead(503).write('please wait'),
    );
    const { check } = setUp(t, { address });
    t.equal(await result(check), 'failed: status 503');
    await allClosed();
  });

  t.test('a body is read to 64 KiB and no further', async (t) => {
    const { address, allClosed } = await listenHttp(t, (_request, response) => {
      const go = () => {
        while (!response.destroyed && response.write(Buffer.alloc(16_384)));
      };
      response.on('drain', go);
      go();
    });
    const { check } = setUp(t, { address });
    t.equal(await result(check), 'ok: status 200');
    await allClosed();
  });

  t.test('a black hole is a timeout, and its connection is closed', async (t) => {
    const { address, sockets, allClosed } = await listen(t, silentServer());
    const { check, clock, reports } = setUp(t, { address });
    while (sockets.size === 0) await turn();
    clock.advance(1_100);
    t.same(reports, ['down: timeout after 1000 ms']);
    await allClosed();
    check.stop();
  });

  t.test('what is broken is named', async (t) => {
    const says = async (answer: string | null) => {
      const { address } = await listen(
        t,
        createTcpServer(
          (socket) => void socket.once('data', () => (answer === null ? socket.destroy() : socket.end(answer))),
        ),
      );
      return result(setUp(t, { address }).check);
    };
    t.equal(await says(null), 'failed: connection closed');
    t.equal(await says('SSH-2.0-OpenSSH_9.7\r\n'), 'failed: malformed response');
    t.equal(await says('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbro'), 'failed: response broken off');
    t.equal(await says(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(70_000)}\r\n\r\n`), 'failed: response head too large');
    t.equal(
      await says('HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'),
      'ok: status 200',
    );
    t.equal(await result(setUp(t, { address: await deadAddress() }).check), 'failed: connection refused');
  });

  t.test('failures of the connection have short names, of unknown ones a bounded message', async (t) => {
    const says = (error: Error) => {
      const { network, reports } = onFakes(t);
      network.last.fail(error);
      return reports[0];
    };
    t.equal(says(transportError('SLV_UPSTREAM_DNS')), 'down: name cannot be resolved');
    t.equal(says(transportError('SLV_CONNECT_TIMEOUT')), 'down: connecting took too long');
    t.equal(says(new Error('x'.repeat(10_000))).length, 'down: '.length + 120);
  });

  t.test('checks over TLS as traffic goes, and names what is wrong with the certificate', async (t) => {
    const ca = new TestCa(t);
    const { cert, key } = ca.issue({ name: 'up', altNames: ['DNS:up.test'] });
    const server = createHttpsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (_request, response) =>
      response.end(),
    );
    const { address } = await listen(t, server as unknown as TcpServer);
    t.equal(await result(setUp(t, { address, tls: upstreamTls(ca.cert) }).check), 'ok: status 200');
    const detail = await result(setUp(t, { address, tls: upstreamTls(null) }).check);
    t.match(detail, /^failed: TLS failed: .*certificate/);
    t.ok(detail.length <= 130);
  });
});

t.test('tcp', async (t) => {
  const policy = { probe: { kind: 'tcp' } } as const;

  t.test('an endpoint that takes the connection is healthy, and the connection is closed', async (t) => {
    const { address, counts, allClosed } = await listen(t, silentServer());
    const { check } = setUp(t, { address, policy });
    t.equal(await result(check), 'ok: connected');
    await turn();
    await allClosed();
    t.equal(counts.connections, 1);
  });

  t.test('one that refuses it is not', async (t) => {
    const { check, clock, reports } = setUp(t, { address: await deadAddress(), policy });
    t.equal(await result(check), 'failed: connection refused');
    clock.advance(3_100);
    t.equal(await result(check), 'failed: connection refused');
    t.equal(reports.length, 1);
  });

  t.test('where the endpoint has TLS, the handshake belongs to it', async (t) => {
    const ca = new TestCa(t);
    const { cert, key } = ca.issue({ name: 'up', altNames: ['DNS:up.test'] });
    const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) });
    const { address } = await listen(t, server);
    t.equal(await result(setUp(t, { address, policy, tls: upstreamTls(ca.cert) }).check), 'ok: connected');
    t.match(await result(setUp(t, { address, policy, tls: upstreamTls(null) }).check), /^failed: TLS failed: /);

    const closing = await listen(
      t,
      createTcpServer((socket) => void socket.once('data', () => socket.end())),
    );
    const { check } = setUp(t, { address: closing.address, policy, tls: upstreamTls(ca.cert) });
    t.match(await result(check), /^failed: TLS failed: /);
  });

  t.test('a handshake that never ends is a timeout', async (t) => {
    const { address, sockets, allClosed } = await listen(t, silentServer());
    const ca = new TestCa(t);
    const { clock, reports } = setUp(t, { address, policy, tls: upstreamTls(ca.cert) });
    while (sockets.size === 0) await turn();
    clock.advance(1_100);
    t.same(reports, ['down: timeout after 1000 ms']);
    await allClosed();
  });

  t.test('stop amid the connecting leaves nothing', async (t) => {
    const { address, allClosed } = await listen(t, silentServer());
    const { check, wheel, reports } = setUp(t, { address, policy });
    check.stop();
    await turn();
    await allClosed();
    t.equal(wheel.waiting, 0);
    t.same(reports, []);
  });
});

interface HealthRequest {
  readonly service: string;
}

interface HealthServer {
  readonly port: number;
  readonly requests: { service: string; metadata: grpc.Metadata }[];
  /** Status by service, or the error that is answered. */
  readonly statuses: Map<string, number | grpc.status>;
  readonly server: grpc.Server;
}

/** grpc.health.v1 on @grpc/grpc-js: messages by hand here too, so that the two sides check each other. */
async function grpcHealthServer(
  t: Teardown,
  credentials: grpc.ServerCredentials = grpc.ServerCredentials.createInsecure(),
  port = 0,
): Promise<HealthServer> {
  const server = new grpc.Server();
  const requests: HealthServer['requests'] = [];
  const statuses = new Map<string, number>([['', 1]]);
  const method: grpc.MethodDefinition<HealthRequest, number> = {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: ({ service }) => Buffer.from(service),
    requestDeserialize: (octets) => ({ service: octets.subarray(2).toString() }),
    responseSerialize: (status) => Buffer.from(status === 0 ? [] : [8, status]),
    responseDeserialize: (octets) => octets[1] ?? 0,
  };
  const check: grpc.handleUnaryCall<HealthRequest, number> = ({ request: { service }, metadata }, reply) => {
    requests.push({ service, metadata });
    const status = statuses.get(service);
    if (status === undefined) reply({ code: grpc.status.NOT_FOUND, details: 'unknown service' });
    else reply(null, status);
  };
  server.addService({ check: method } as grpc.ServiceDefinition, { check } as grpc.UntypedServiceImplementation);
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, credentials, (error, taken) => (error ? reject(error) : resolve(taken))),
  );
  t.teardown(() => server.forceShutdown());
  return { port: bound, requests, statuses, server };
}

/** An HTTP/2 server whose streams the test answers. */
async function http2Server(t: Teardown, onStream: (stream: ServerHttp2Stream) => void) {
  const server = createHttp2Server();
  const streams: ServerHttp2Stream[] = [];
  server.on('stream', (stream: ServerHttp2Stream) => {
    streams.push(stream);
    stream.on('error', () => {});
    stream.resume();
    onStream(stream);
  });
  const listening = await listen(t, server as unknown as TcpServer);
  return { streams, ...listening };
}

const GRPC_HEAD = { ':status': 200, 'content-type': 'application/grpc' } as const;

function answerGrpc(
  stream: ServerHttp2Stream,
  message: Buffer,
  trailers: Record<string, string> = { 'grpc-status': '0' },
) {
  stream.respond(GRPC_HEAD, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end(message);
}

const SERVING_MESSAGE = Buffer.from([0, 0, 0, 0, 2, 8, 1]);

t.test('grpc', async (t) => {
  t.test('a real gRPC server: serving, not serving, unknown service', async (t) => {
    const { port, requests, statuses } = await grpcHealthServer(t);
    const address = `127.0.0.1:${port}`;
    const { check, clock } = setUp(t, { address, policy: { probe: GRPC }, headers: ['x-selvedge-endpoint', 'a:1'] });
    t.equal(await result(check), 'ok: grpc SERVING');
    t.same(requests[0].metadata.get('x-selvedge-endpoint'), ['a:1']);
    t.match(requests[0].metadata.get('user-agent')[0], /^selvedge-health-check/);
    for (const [status, detail] of [
      [2, 'failed: grpc NOT_SERVING'],
      [0, 'failed: grpc UNKNOWN'],
      [3, 'failed: grpc SERVICE_UNKNOWN'],
      [7, 'failed: grpc serving status 7'],
      [1, 'ok: grpc SERVING'],
    ] as const) {
      statuses.set('', status);
      clock.advance(3_100);
      t.equal(await result(check), detail);
    }
    const named = setUp(t, { address, policy: { probe: { kind: 'grpc', service: 'shop.Orders' } } });
    t.equal(await result(named.check), 'failed: grpc NOT_FOUND');
    t.equal(requests.at(-1)?.service, 'shop.Orders');
    statuses.set('shop.Orders', 1);
    named.clock.advance(3_100);
    t.equal(await result(named.check), 'ok: grpc SERVING');
  });

  t.test('a gRPC server without the health service is not healthy', async (t) => {
    const server = new grpc.Server();
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    t.teardown(() => server.forceShutdown());
    const { check } = setUp(t, { address: `127.0.0.1:${port}`, policy: { probe: GRPC } });
    t.equal(await result(check), 'failed: grpc UNIMPLEMENTED');
  });

  t.test('a real gRPC server over TLS', async (t) => {
    const ca = new TestCa(t);
    const { cert, key } = ca.issue({ name: 'up', altNames: ['DNS:up.test'] });
    const pair = { cert_chain: readFileSync(cert), private_key: readFileSync(key) };
    const { port } = await grpcHealthServer(t, grpc.ServerCredentials.createSsl(null, [pair]));
    const address = `127.0.0.1:${port}`;
    const policy = { probe: GRPC };
    t.equal(await result(setUp(t, { address, policy, tls: upstreamTls(ca.cert) }).check), 'ok: grpc SERVING');
    t.match(await result(setUp(t, { address, policy, tls: upstreamTls(null) }).check), /^failed: TLS failed: /);
  });

  t.test('a server that stops and comes back is found down and up again', async (t) => {
    const first = await grpcHealthServer(t);
    const policy = { probe: GRPC, unhealthyAfter: 1, healthyAfter: 1 };
    const { check, clock, reports } = setUp(t, { address: `127.0.0.1:${first.port}`, policy });
    t.equal(await result(check), 'ok: grpc SERVING');
    first.server.forceShutdown();
    clock.advance(3_100);
    t.equal(await result(check), 'failed: connection refused');
    const second = await grpcHealthServer(t, undefined, first.port);
    clock.advance(3_100);
    t.equal(await result(check), 'ok: grpc SERVING');
    t.equal(second.requests.length, 1);
    t.same(reports, ['up: grpc SERVING', 'down: connection refused', 'up: grpc SERVING']);
  });

  t.test('the session is kept between checks and closed by stop', async (t) => {
    const { address, counts, streams, allClosed } = await http2Server(t, (stream) =>
      answerGrpc(stream, SERVING_MESSAGE),
    );
    const { check, clock } = setUp(t, { address, policy: { probe: GRPC } });
    t.equal(await result(check), 'ok: grpc SERVING');
    clock.advance(3_100);
    t.equal(await result(check), 'ok: grpc SERVING');
    t.equal(streams.length, 2);
    t.equal(counts.connections, 1);
    check.stop();
    await allClosed();
  });

  t.test('a session that dies under the request is replaced once', async (t) => {
    let dying = false;
    const { address, counts } = await http2Server(t, (stream) => {
      if (dying) {
        dying = false;
        stream.session?.destroy();
      } else answerGrpc(stream, SERVING_MESSAGE);
    });
    const { check, clock } = setUp(t, { address, policy: { probe: GRPC } });
    t.equal(await result(check), 'ok: grpc SERVING');
    dying = true;
    clock.advance(3_100);
    t.equal(await result(check), 'ok: grpc SERVING');
    t.equal(counts.connections, 2);
  });

  t.test('a fresh session that dies is a failure', async (t) => {
    const { address } = await http2Server(t, (stream) => stream.session?.destroy());
    const { check } = setUp(t, { address, policy: { probe: GRPC } });
    t.match(await result(check), /^failed: (connection closed|stream reset)/);
  });

  t.test('a stream that says nothing is a timeout, and its session is given up', async (t) => {
    const { address, streams, allClosed } = await http2Server(t, () => {});
    const { clock, reports, check } = setUp(t, { address, policy: { probe: GRPC } });
    while (streams.length === 0) await turn();
    clock.advance(1_100);
    t.same(reports, ['down: timeout after 1000 ms']);
    await allClosed();
    clock.advance(2_000);
    while (streams.length === 1) await turn();
    check.stop();
    await allClosed();
    t.equal(reports.length, 1);
  });

  t.test('answers that are no gRPC, or no health answer, are named', async (t) => {
    const says = async (answer: (stream: ServerHttp2Stream) => void) => {
      const { address } = await http2Server(t, answer);
      return result(setUp(t, { address, policy: { probe: GRPC } }).check);
    };
    t.equal(await says((stream) => answerGrpc(stream, Buffer.alloc(0))), 'failed: malformed gRPC response');
    t.equal(await says((stream) => answerGrpc(stream, Buffer.from('garbage'))), 'failed: malformed gRPC response');
    t.equal(
      await says((stream) => answerGrpc(stream, SERVING_MESSAGE, { 'grpc-status': '14' })),
      'failed: grpc UNAVAILABLE',
    );
    t.equal(
      await says((stream) => stream.respond({ ...GRPC_HEAD, 'grpc-status': '16' }, { endStream: true })),
      'failed: grpc UNAUTHENTICATED',
      'a response of headers alone',
    );
    t.equal(await says((stream) => stream.respond({ ':status': 503 }, { endStream: true })), 'failed: status 503');
    t.equal(
      await says((stream) => {
        stream.respond({ ':status': 200, 'content-type': 'text/html' });
        stream.end('<html>');
      }),
      'failed: not a gRPC response',
    );
    t.match(await says((stream) => stream.close(8)), /^failed: stream reset \(HTTP\/2 error 8\)/);
    t.match(
      await says((stream) => {
        stream.respond(GRPC_HEAD);
        stream.write(SERVING_MESSAGE);
        stream.close(2);
      }),
      /^failed: stream reset \(HTTP\/2 error 2\)/,
      'though it began well',
    );
    t.equal(
      await says((stream) => {
        stream.respond(GRPC_HEAD);
        stream.write(Buffer.alloc(70_000));
      }),
      'failed: response too large',
    );
  });

  t.test('what does not speak HTTP/2 is not healthy', async (t) => {
    const { address } = await listen(
      t,
      createTcpServer((socket) => void socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))),
    );
    t.match(await result(setUp(t, { address, policy: { probe: GRPC } }).check), /^failed: /);

    const ca = new TestCa(t);
    const { cert, key } = ca.issue({ name: 'up', altNames: ['DNS:up.test'] });
    const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) });
    const secure = await listen(t, server);
    const { check } = setUp(t, { address: secure.address, policy: { probe: GRPC }, tls: upstreamTls(ca.cert) });
    t.equal(await result(check), 'failed: no HTTP/2');
  });

  t.test('stop amid the connecting, or amid a check, leaves nothing', async (t) => {
    const { address, streams, allClosed } = await http2Server(t, () => {});
    const connecting = setUp(t, { address, policy: { probe: GRPC } });
    connecting.check.stop();
    const asking = setUp(t, { address, policy: { probe: GRPC } });
    while (streams.length === 0) await turn();
    asking.check.stop();
    await once(streams[0], 'close');
    await allClosed();
    t.same([...connecting.reports, ...asking.reports], []);
    t.equal(connecting.wheel.waiting + asking.wheel.waiting, 0);
  });

  t.test('headers that cannot be sent are a failed check, not the end of the process', async (t) => {
    const { address } = await http2Server(t, () => {});
    const { check } = setUp(t, { address, policy: { probe: GRPC }, headers: ['bad name', 'x'] });
    t.match(await result(check), /^failed: /);
  });
});

t.test('messages of grpc.health.v1', async (t) => {
  t.test('a request names its service in field 1, after the five bytes of the frame', async (t) => {
    t.strictSame(healthRequest(''), Buffer.from([0, 0, 0, 0, 0]));
    t.strictSame(healthRequest('a'), Buffer.from([0, 0, 0, 0, 3, 10, 1, 97]));
    const long = healthRequest('é'.repeat(100));
    t.strictSame([...long.subarray(0, 8)], [0, 0, 0, 0, 203, 10, 200, 1]);
    t.equal(long.length, 208);
  });

  t.test('unknown fields are skipped, the last status counts, and what breaks off is no message', async (t) => {
    const frame = (...octets: number[]) => Buffer.from([0, 0, 0, 0, octets.length, ...octets]);
    t.equal(servingStatus(frame()), 0);
    t.equal(servingStatus(frame(8, 2, 8, 1)), 1);
    t.equal(servingStatus(frame(16, 200, 1, 8, 1)), 1, 'a number');
    t.equal(servingStatus(frame(18, 2, 8, 8, 8, 1)), 1, 'octets');
    t.equal(servingStatus(frame(17, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1)), 1, 'eight octets');
    t.equal(servingStatus(frame(21, 0, 0, 0, 0, 8, 1)), 1, 'four octets');
    for (const broken of [[8], [8, 128], [18, 9, 1], [17, 0], [19], [0, 1], [8, ...Array(11).fill(128), 1]]) {
      t.equal(servingStatus(frame(...broken)), null, `${broken}`);
    }
    t.equal(servingStatus(Buffer.from([1, 0, 0, 0, 2, 8, 1])), null, 'compressed');
    t.equal(servingStatus(Buffer.from([0, 0, 0, 0, 3, 8, 1])), null, 'a part of a message');
    t.equal(servingStatus(Buffer.from([0, 0, 0, 0, 1, 8, 1])), null, 'more than a message');
  });

  t.test('no input is too strange to read', async () => {
    const property = fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
      const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, octets.length]), octets]);
      const status = servingStatus(framed);
      return status === null || (Number.isInteger(status) && status >= 0);
    });
    fc.assert(property, { numRuns: 2_000, seed: 3 });
  });

  t.test('a status code is named, however strange', async (t) => {
    t.equal(grpcStatusName('5'), 'NOT_FOUND');
    t.equal(grpcStatusName('99'), 'status 99');
    t.equal(grpcStatusName('x'.repeat(99)), `status ${'x'.repeat(16)}`);
  });
});

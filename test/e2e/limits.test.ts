// Every bound of a listener on every kind of listener: one table.
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import type { Limits } from '../../src/config/model.ts';
import { type ConfigInput, createSelvedge } from '../../src/index.ts';
import { Listener } from '../../src/runtime/listener.ts';
import { TestAuthority, TestSource } from '../support/mesh-authority.ts';
import { dial } from '../support/raw-client.ts';
import { TestCa } from '../support/tls-fixture.ts';
import { freePort } from './support/ports.ts';
import { httpUpstream, RawClient, statusOf } from './support/sockets.ts';

/** No handshake limit without a handshake; a connection that was upgraded, or refused to be, is not kept for a next request. */
const KINDS = ['plain', 'tls', 'inbound', 'outbound', 'upgrade'] as const;
type Kind = (typeof KINDS)[number];

interface Running {
  open(kind: Kind): Promise<RawClient>;
  port(kind: Kind): number;
  /** Refusals of the listener of this kind before any chain, by code. */
  refused(kind: Kind, code: string): Promise<number>;
}

/** The bounds of a hop are no part of the config: here every listener of the process gets these. */
let limits: Partial<Limits> = {};
const { bind } = Listener.prototype;
Listener.prototype.bind = function (this: Listener): Promise<void> {
  this.update({ ...this.spec, limits: { ...this.spec.limits, ...limits } });
  return bind.call(this);
};
t.teardown(() => {
  Listener.prototype.bind = bind;
});

const ca = new TestCa(t);
const certificate = ca.issue({ name: 'app', altNames: ['DNS:app'] });
const authority = await TestAuthority.make('shop.internal');
const caller = await authority.svid('spiffe://shop.internal/service/cart');

async function start(t: Test, bounds: Partial<Limits>): Promise<Running> {
  const { port: app, server } = await httpUpstream(t, (req, res) => {
    let bytes = 0;
    req
      .on('error', () => undefined)
      .on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      })
      .on('end', () => res.end(`got ${bytes}.`));
  });
  server.maxHeadersCount = 0;
  server.on('upgrade', (_req, socket) => {
    socket
      .on('error', () => undefined)
      .on('end', () => socket.end())
      .resume();
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n');
  });
  const [inbound, outbound] = [await freePort(), await freePort()];
  const listener = { host: '127.0.0.1', port: 0 };
  limits = bounds;
  const selvedge = await createSelvedge({
    logger: false,
    identity: async () => new TestSource(authority),
    config: {
      version: 1,
      admin: false,
      telemetry: { accessLog: false },
      mesh: { trustDomain: 'shop.internal', mtls: 'strict' },
      gateways: {
        edge: {
          listeners: [
            { ...listener, name: 'plain' },
            { ...listener, name: 'tls', tls: { certificates: [certificate] } },
            { ...listener, name: 'upgrade' },
          ],
        },
      },
      services: {
        app: { endpoints: [`127.0.0.1:${app}`] },
        orders: {
          endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${inbound}` }],
          internal: {
            inbound: { host: '127.0.0.1', port: inbound },
            outbound: { host: '127.0.0.1', port: outbound },
            app: `127.0.0.1:${app}`,
          },
        },
      },
      routes: [{ name: 'app', to: 'app' }],
    } as ConfigInput,
  });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const keyOf = (kind: Kind): string =>
    kind === 'inbound' || kind === 'outbound' ? `${kind}/orders` : `gateway/edge/${kind}`;
  const port = (kind: Kind): number => selvedge.addresses()[keyOf(kind)].port;
  return {
    port,
    async open(kind) {
      const wire = connectTcp(port(kind), '127.0.0.1').setNoDelay(true);
      wire.on('error', () => undefined);
      t.teardown(() => wire.destroy());
      if (kind !== 'tls' && kind !== 'inbound') {
        const client = new RawClient(wire);
        await once(wire, 'connect');
        return client;
      }
      const peer =
        kind === 'tls'
          ? { ca: ca.pem, servername: 'app' }
          : { ca: authority.roots, cert: caller.cert, key: caller.key, checkServerIdentity: () => undefined };
      const socket = connectTls({ socket: wire, ...peer });
      await once(socket, 'secureConnect');
      return new RawClient(socket);
    },
    async refused(kind, code) {
      const metric = await selvedge.registry.getSingleMetric('selvedge_rejected_requests_total')?.get();
      const series = metric?.values.filter(({ labels }) => labels.listener === kind && labels.code === code) ?? [];
      return series.reduce((sum, { value }) => sum + value, 0);
    },
  };
}

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: echo\r\n';
/** A head of this kind of listener, without its last line. */
const head = (kind: Kind, method = 'GET', target = '/'): string =>
  `${method} ${target} HTTP/1.1\r\nHost: app\r\n${kind === 'upgrade' ? UPGRADE : ''}`;
const SERVED: Readonly<Record<Kind, RegExp>> = {
  plain: /got 0\./,
  tls: /got 0\./,
  inbound: /got 0\./,
  outbound: /got 0\./,
  upgrade: /HTTP\/1\.1 101 /,
};
const body = (answer: string) => JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1));

/** One answer, with this code, which says that the connection ends. The rest of a body may still be awaited for a while. */
async function refusedWith(t: Test, client: RawClient, status: number, code: string, name: string): Promise<void> {
  const answer = await client.until((text) => text.endsWith('}'));
  t.equal(statusOf(answer), status, name);
  t.equal(answer === '' ? '' : body(answer).code, code, name);
  t.match(answer, /\r\nconnection: close\r\n/i, name);
  client.socket.destroy();
  t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, `${name}: one answer`);
}

/** A piece every so often until the connection ends. */
function drip(t: Test, client: RawClient, pieces: readonly string[], everyMs: number): void {
  const rest = [...pieces];
  const timer = setInterval(() => {
    if (client.ended !== null || rest.length === 0) clearInterval(timer);
    else client.send(rest.shift() as string);
  }, everyMs);
  t.teardown(() => clearInterval(timer));
}

t.test('sizes', async (t) => {
  const running = await start(t, { headerBytes: 4_096, headerCount: 20, urlBytes: 1_024, bodyBytes: 2_000 });
  const lines = (count: number): string => Array.from({ length: count }, (_, i) => `X-${i}: 1\r\n`).join('');
  const chunk = (size: number): string => `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`;
  const cases: Record<string, readonly [(kind: Kind) => string, number, string]> = {
    headerBytes: [(kind) => `${head(kind)}X: ${'x'.repeat(5_000)}\r\n\r\n`, 431, 'SLV_HEADERS_TOO_LARGE'],
    'headerBytes without end': [(kind) => `${head(kind)}X: ${'x'.repeat(50_000)}`, 431, 'SLV_HEADERS_TOO_LARGE'],
    headerCount: [(kind) => `${head(kind)}${lines(20)}\r\n`, 431, 'SLV_HEADERS_TOO_LARGE'],
    urlBytes: [(kind) => `${head(kind, 'GET', `/${'x'.repeat(1_024)}`)}\r\n`, 414, 'SLV_URL_TOO_LONG'],
    'urlBytes without end': [() => `GET /${'x'.repeat(50_000)}`, 414, 'SLV_URL_TOO_LONG'],
    'bodyBytes, declared': [
      (kind) => `${head(kind, 'POST')}Content-Length: 2000000\r\n\r\n`,
      413,
      'SLV_BODY_TOO_LARGE',
    ],
    'bodyBytes, chunked': [
      (kind) => `${head(kind, 'POST')}Transfer-Encoding: chunked\r\n\r\n${chunk(1_000)}${chunk(1_001)}`,
      413,
      'SLV_BODY_TOO_LARGE',
    ],
    'bodyBytes, a chunk that only says so': [
      (kind) => `${head(kind, 'POST')}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n${'x'.repeat(2_500)}`,
      413,
      'SLV_BODY_TOO_LARGE',
    ],
  };
  for (const kind of KINDS) {
    for (const [name, [bytes, status, code]] of Object.entries(cases)) {
      const client = await running.open(kind);
      await refusedWith(t, client.send(bytes(kind)), status, code, `${kind}: ${name}`);
    }
    const within = await running.open(kind);
    const room = 20 - (kind === 'upgrade' ? 3 : 1);
    within.send(`${head(kind, 'GET', `/${'x'.repeat(1_023)}`)}${lines(room)}\r\n`);
    t.match(await within.until((text) => SERVED[kind].test(text)), SERVED[kind], `${kind}: what is within passes`);
    for (const [framing, payload] of [
      ['Content-Length: 2000', 'x'.repeat(2_000)],
      ['Transfer-Encoding: chunked', `${chunk(1_000)}${chunk(1_000)}0\r\n\r\n`],
    ]) {
      const upload = await running.open(kind);
      upload.send(`${head(kind, 'POST')}${framing}\r\n\r\n${payload}`);
      t.match(await upload.until('got 2000.'), /200 OK/, `${kind}: a body within passes, ${framing}`);
    }
  }
});

t.test('times', async (t) => {
  const running = await start(t, {
    headerTimeoutMs: 500,
    bodyIdleTimeoutMs: 2_000,
    bodyMinRate: 200,
    keepAliveTimeoutMs: 300,
    tlsHandshakeTimeoutMs: 500,
  });
  const everyKind = (run: (kind: Kind) => Promise<void>): Promise<unknown> => Promise.all(KINDS.map(run));
  const slowHead = [...`X-Slow: ${'x'.repeat(50)}`, '\r\n\r\n'];
  await Promise.all([
    everyKind(async (kind) => {
      const client = await running.open(kind);
      client.send(head(kind));
      drip(t, client, slowHead, 100);
      await refusedWith(t, client, 408, 'SLV_REQUEST_TIMEOUT', `${kind}: a head is late although bytes come`);
    }),
    everyKind(async (kind) => {
      const client = await running.open(kind);
      client.send(`${head(kind, 'POST')}Content-Length: 100\r\n\r\nabc`);
      await refusedWith(t, client, 408, 'SLV_REQUEST_TIMEOUT', `${kind}: a body that stops`);
    }),
    everyKind(async (kind) => {
      const client = await running.open(kind);
      client.send(`${head(kind, 'POST')}Content-Length: 200\r\n\r\n`);
      drip(t, client, Array<string>(200).fill('x'), 100);
      await refusedWith(t, client, 408, 'SLV_REQUEST_TIMEOUT', `${kind}: a byte now and then`);
    }),
    everyKind(async (kind) => {
      const client = await running.open(kind);
      client.send(`${head(kind, 'POST')}Transfer-Encoding: chunked\r\n\r\n`);
      drip(t, client, Array<string>(200).fill('1\r\nx\r\n'), 100);
      await refusedWith(t, client, 408, 'SLV_REQUEST_TIMEOUT', `${kind}: a chunk of a byte now and then`);
    }),
    everyKind(async (kind) => {
      const client = await running.open(kind);
      client.send(`${head(kind, 'POST')}Content-Length: 4000\r\n\r\n`);
      drip(t, client, Array<string>(80).fill('x'.repeat(50)), 100);
      t.match(await client.until('got '), /got 4000\./, `${kind}: a steady upload, longer than any grace`);
    }),
    everyKind(async (kind) => {
      // Behind an offer to upgrade the connection is either a tunnel or closed with the answer.
      if (kind === 'upgrade') return;
      const client = await running.open(kind);
      client.send(`${head(kind)}\r\n`);
      await client.until('got 0.');
      const answer = await client.closed();
      t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, `${kind}: an idle connection is closed without a word`);
    }),
    everyKind(async (kind) => {
      if (kind !== 'tls' && kind !== 'inbound') return;
      const silent = dial(running.port(kind));
      const dripping = dial(running.port(kind));
      drip(t, dripping, [...'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', ...Array<string>(300).fill('x')], 50);
      t.equal(await silent.closed(), '', `${kind}: no handshake`);
      t.equal(await dripping.closed(), '', `${kind}: a handshake a byte at a time`);
      t.equal((await running.refused(kind, 'SLV_REQUEST_TIMEOUT')) >= 2, true, `${kind}: counted`);
    }),
  ]);
});

for (const [limit, code] of [
  ['connections', 'SLV_CONNECTION_LIMIT'],
  ['connectionsPerClient', 'SLV_CLIENT_CONNECTION_LIMIT'],
] as const) {
  t.test(limit, async (t) => {
    const running = await start(t, { [limit]: 2 });
    const served = async (kind: Kind): Promise<RawClient> => {
      const client = await running.open(kind);
      const answer = await client.send(`${head(kind)}\r\n`).until((text) => SERVED[kind].test(text));
      if (client.ended !== null) throw new Error(`closed: ${answer}`);
      return client;
    };
    for (const kind of KINDS) {
      const first = await served(kind);
      await served(kind);
      const third = dial(running.port(kind), `${head(kind)}\r\n`);
      t.equal(await third.closed(), '', `${kind}: the third is closed unread`);
      t.equal(await running.refused(kind, code), 1, `${kind}: and counted`);
      first.socket.destroy();
      // What is closed here is known there a moment later.
      let again: RawClient | null = null;
      for (const giveUpAt = performance.now() + 5_000; again === null && performance.now() < giveUpAt; )
        again = await served(kind).catch(() => null);
      t.ok(again?.ended === null, `${kind}: there is room again`);
    }
  });
}

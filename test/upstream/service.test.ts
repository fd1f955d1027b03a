import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import type { ServiceConfig, UpstreamTls } from '../../src/config/model.ts';
import type { Call } from '../../src/upstream/call.ts';
import { compileApps, compileServices, retireServices } from '../../src/upstream/compile-services.ts';
import { RetryBudget } from '../../src/upstream/retry-budget.ts';
import type { Service } from '../../src/upstream/service.ts';
import { buildStack } from '../../src/upstream/stack.ts';
import { connectionOptions, readCredentials } from '../../src/upstream/tls.ts';
import { fakeWheel } from '../support/fake-clock.ts';
import {
  endpointConfig,
  fakeUpstream,
  makeCall,
  makeOptions,
  Recorder,
  serviceConfig,
  transportError,
} from '../support/fake-upstream.ts';

const stack = buildStack({ perRequest: [], perAttempt: [] });

function setUp() {
  const { clock, wheel } = fakeWheel();
  return { clock, wheel, ...fakeUpstream(wheel) };
}

function send(service: Service, rest: Partial<Call> = {}): Recorder {
  const client = new Recorder();
  stack(makeOptions(makeCall(service, rest)), client);
  return client;
}

t.test('reload', async (t) => {
  t.test('an unchanged service is the same object, wherever in the file it now stands', async (t) => {
    const { deps } = setUp();
    const before = compileServices([serviceConfig(['a:1'])], null, deps);
    const moved = { ...serviceConfig(['a:1']), at: { file: 'test.yaml', line: 99, column: 3 } };
    t.equal(compileServices([moved], before, deps).get('orders'), before.get('orders'));
  });

  t.test('a changed service keeps the endpoints that did not change, with connections and load', async (t) => {
    const { deps, network } = setUp();
    const before = compileServices([serviceConfig(['a:1', 'b:1'])], null, deps);
    const old = before.get('orders')!;
    send(old);
    const config = serviceConfig([endpointConfig('a:1', { weight: 5, labels: { version: 'v2' } }), 'c:1']);
    const after = compileServices([config], before, deps);
    const fresh = after.get('orders')!;
    t.not(fresh, old);
    t.equal(fresh.endpoints[0], old.endpoints[0]);
    t.equal(fresh.endpoints[0].inFlight, 1);
    t.match(fresh.describe().endpoints[0], { address: 'a:1', weight: 5, labels: { version: 'v2' }, inFlight: 1 });
    t.match(old.describe().endpoints[0], { weight: 1, labels: {} }, 'the old config is whole until the swap');
    t.equal(fresh.memory.retryBudget, old.memory.retryBudget);
    retireServices(before.values(), after.values());
    t.same(network.closed, [], 'b:1 never had a connection');
    network.last.respond(200).end();
    t.equal(fresh.endpoints[0].inFlight, 0);
    t.same(network.closed, []);
  });

  t.test('an endpoint that is gone closes once its last request has ended', async (t) => {
    const { deps, network } = setUp();
    const before = compileServices([serviceConfig(['a:1'])], null, deps);
    const old = before.get('orders')!;
    const first = send(old);
    const one = network.last;
    const second = send(old);
    retireServices(before.values(), []);
    t.same(network.closed, []);
    one.respond(200).end();
    t.same(network.closed, [], 'one request is still under way');
    network.last.respond(200).end();
    t.same(network.closed, ['a:1']);
    t.equal(first.status + second.status, 400);
  });

  t.test('a request of the old config that comes late is served, and leaves nothing open', async (t) => {
    const { clock, deps, network } = setUp();
    const before = compileServices([serviceConfig(['a:1'])], null, deps);
    const client = send(before.get('orders')!);
    network.last.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
    retireServices(before.values(), []);
    t.same(network.closed, ['a:1']);
    clock.advance(100);
    network.last.respond(200).end();
    t.same(client.events, ['start 200', 'end']);
    t.equal(network.opened, 2);
    t.same(network.closed, ['a:1', 'a:1']);
  });

  t.test('other connection settings or another hop make another endpoint', async (t) => {
    const { deps } = setUp();
    const before = compileServices([serviceConfig(['a:1'])], null, deps);
    const endpoint = before.get('orders')!.endpoints[0];
    const connections = { ...serviceConfig([]).connections, max: 1 };
    const changes: ServiceConfig[] = [
      serviceConfig(['a:1'], { connections }),
      serviceConfig([endpointConfig('a:1', { hop: 'h:1' })]),
      serviceConfig(['a:1'], { tls: TLS }),
    ];
    for (const config of changes) t.not(compileServices([config], before, deps).get('orders')!.endpoints[0], endpoint);
  });

  t.test('a compiled config that is thrown away has opened nothing', async (t) => {
    const { deps, network } = setUp();
    compileServices([serviceConfig(['a:1', 'b:1'])], null, deps);
    t.equal(network.opened, 0);
  });

  t.test('closing a service closes every endpoint', async (t) => {
    const { deps, network } = setUp();
    const service = compileServices([serviceConfig(['a:1', 'b:1'])], null, deps).get('orders')!;
    send(service);
    send(service);
    await service.close();
    t.same(network.closed.toSorted(), ['a:1', 'b:1']);
  });
});

t.test('subsets are found by labels, and an unknown one is not an empty one', async (t) => {
  const { deps } = setUp();
  const endpoints = [
    endpointConfig('a:1', { labels: { version: 'v1', zone: 'x' } }),
    endpointConfig('b:1', { labels: { version: 'v2', zone: 'x' } }),
    endpointConfig('c:1', { labels: { version: 'v2', zone: 'y' } }),
  ];
  const subsets = { v2: { version: 'v2' }, v2x: { version: 'v2', zone: 'x' }, none: { version: 'v3' } };
  const service = compileServices([serviceConfig(endpoints, { subsets })], null, deps).get('orders')!;
  const addresses = (name: string | null) => service.subset(name)?.map(({ address }) => address);
  t.same(addresses(null), ['a:1', 'b:1', 'c:1']);
  t.same(addresses('v2'), ['b:1', 'c:1']);
  t.same(addresses('v2x'), ['b:1']);
  t.same(addresses('none'), []);
  t.equal(addresses('v9'), undefined);
  t.equal(addresses('constructor'), undefined);
});

t.test('the apps of a hop are dialled directly, with the weights and labels that the config gives them', async (t) => {
  const { deps } = setUp();
  const hop = '10.0.0.6:15001';
  const at = { file: 'test.yaml', line: 1, column: 1 };
  const internal = {
    at,
    inbound: { host: '0.0.0.0', port: 15001 },
    outbound: null,
    apps: ['127.0.0.1:3000', '[::1]:3001'],
  };
  const config = serviceConfig([endpointConfig('127.0.0.1:3000', { hop, weight: 0, labels: { version: 'v2' } })], {
    internal,
  });
  const apps = compileApps(config, null, deps);
  t.equal(apps.name, 'orders');
  t.match(apps.describe().endpoints, [
    { address: '127.0.0.1:3000', dial: '127.0.0.1:3000', weight: 1, labels: { version: 'v2' } },
    { address: '[::1]:3001', dial: '[::1]:3001', weight: 1 },
  ]);
  t.match(apps.endpoints[1], { host: '::1', port: 3001, hop: null, origin: 'http://[::1]:3001' });
  t.equal(compileApps(config, apps, deps), apps);
  t.same(compileApps(serviceConfig(['a:1']), null, deps).endpoints, []);
});

const TLS: UpstreamTls = { serverName: null, ca: null, cert: null, key: null, verify: true };

t.test('tls', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-tls-'));
  t.teardown(() => rmSync(dir, { recursive: true }));

  t.test('verifies, by the name of the endpoint, with nothing older than TLS 1.2', async (t) => {
    const options = connectionOptions(readCredentials(TLS), 'orders.example.com');
    t.match(options, {
      host: 'orders.example.com',
      servername: 'orders.example.com',
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
    });
    t.equal(options.checkServerIdentity, undefined);
  });

  t.test('an IP address is verified as one, and not sent as a server name', async (t) => {
    const options = connectionOptions(readCredentials(TLS), '10.0.0.5');
    t.equal(options.servername, undefined);
    t.equal(options.host, '10.0.0.5');
    const named = connectionOptions(readCredentials({ ...TLS, serverName: '10.9.9.9' }), 'orders.example.com');
    t.equal(named.servername, undefined);
    const certificate = { subject: { CN: 'x' }, subjectaltname: 'IP Address:10.9.9.9' } as never;
    t.equal(named.checkServerIdentity?.('orders.example.com', certificate), undefined);
    const other = { subject: { CN: 'x' }, subjectaltname: 'DNS:orders.example.com' } as never;
    t.match(named.checkServerIdentity?.('orders.example.com', other), Error);
  });

  t.test('serverName and verify are taken from the config', async (t) => {
    const tls = { ...TLS, serverName: 'inner.example.com', verify: false };
    const options = connectionOptions(readCredentials(tls), 'orders.example.com');
    t.match(options, { servername: 'inner.example.com', rejectUnauthorized: false });
  });

  t.test('a file that cannot be used is named with its service', async (t) => {
    const { deps } = setUp();
    const missing = serviceConfig(['a:1'], { tls: { ...TLS, ca: join(dir, 'missing.crt') } });
    t.throws(() => compileServices([missing], null, deps), /service "orders": tls\.ca: .*missing\.crt cannot be read/);
    const bad = join(dir, 'bad.key');
    writeFileSync(bad, 'not a key');
    const broken = serviceConfig(['a:1'], { tls: { ...TLS, cert: bad, key: bad } });
    t.throws(() => compileServices([broken], null, deps), /service "orders": tls: .*bad\.key.* cannot be used/);
  });

  t.test('a certificate that was replaced on disk gets new connections, hops none of it', async (t) => {
    const { deps } = setUp();
    const ca = join(dir, 'ca.crt');
    writeFileSync(ca, rootCertificates[0]);
    const config = serviceConfig(['a:1', endpointConfig('b:1', { hop: 'h:1' })], { tls: { ...TLS, ca } });
    const before = compileServices([config], null, deps);
    t.equal(compileServices([config], before, deps).get('orders'), before.get('orders'));
    writeFileSync(ca, rootCertificates[1]);
    const old = before.get('orders')!;
    const fresh = compileServices([config], before, deps).get('orders')!;
    t.not(fresh.endpoints[0], old.endpoints[0]);
    t.equal(fresh.endpoints[0].origin, 'https://a:1');
    t.equal(fresh.endpoints[1], old.endpoints[1]);
    t.match(fresh.endpoints[1], { tls: null, origin: 'http://h:1', dial: 'h:1', address: 'b:1' });
  });
});

t.test('retry budget', async (t) => {
  t.test('allows ten a second whatever the traffic, and a fifth of ten seconds of requests beside', async (t) => {
    const budget = new RetryBudget();
    const granted = (now: number, asked: number) =>
      Array.from({ length: asked }, () => budget.withdraw(now)).filter(Boolean).length;
    t.equal(granted(1_000, 50), 10);
    t.equal(granted(1_999, 50), 0);
    t.equal(granted(2_000, 50), 10);
    for (let index = 0; index < 1_000; index++) budget.deposit(3_000);
    t.equal(granted(3_500, 1_000), 210);
    t.equal(granted(12_999, 1_000), 10, 'the share of those requests is spent');
    for (let index = 0; index < 100; index++) budget.deposit(13_000);
    t.equal(granted(13_000, 1_000), 30, 'a new window');
    t.equal(granted(100_000, 1_000), 10, 'and nothing is left of a window long gone');
  });

  t.test('is never overdrawn in any ten seconds', async () => {
    const steps = fc.array(
      fc.record({ ms: fc.nat({ max: 3_000 }), requests: fc.nat({ max: 60 }), retries: fc.nat({ max: 60 }) }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(steps, (plan) => {
        const budget = new RetryBudget();
        const requests: number[] = [];
        const retries: number[] = [];
        let now = 5_000;
        for (const step of plan) {
          now += step.ms;
          for (let index = 0; index < step.requests; index++) {
            budget.deposit(now);
            requests.push(now);
          }
          for (let index = 0; index < step.retries; index++) if (budget.withdraw(now)) retries.push(now);
          const second = Math.floor(now / 1_000);
          const inWindow = (time: number) => Math.floor(time / 1_000) > second - 10;
          // Shares were granted against windows that reach back ten seconds before this one.
          const older = (time: number) => Math.floor(time / 1_000) > second - 20;
          if (retries.filter(inWindow).length > 0.2 * requests.filter(older).length + 10 * 10) return false;
        }
        return true;
      }),
      { numRuns: 200 },
    );
  });
});

t.test('in flight is counted up and down exactly once, whatever happens in whatever order', async () => {
  const action = fc.record({
    what: fc.constantFrom(
      'stray',
      'send',
      'send',
      'advance',
      'respond',
      'end',
      'refuse',
      'fail',
      'abort',
      'interim',
      'reload',
    ),
    which: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), fc.boolean(), (actions, balanced) => {
      const { clock, wheel, deps, network } = setUp();
      const loadBalancing = { algorithm: balanced ? ('least-request' as const) : ('round-robin' as const), by: null };
      const config = () => serviceConfig(['a:1', 'b:1', 'c:1'], { loadBalancing });
      const all: Map<string, Service>[] = [compileServices([config()], null, deps)];
      const clients: Recorder[] = [];
      for (const { what, which } of actions) {
        if (what === 'stray') {
          // A transport that reports an end twice.
          const ended = network.exchanges.filter(({ over }) => over);
          const error = transportError('SLV_UPSTREAM_RESET', { unsent: true });
          ended[which % ended.length]?.handler.onResponseError?.(null, error);
        }
        const open = network.exchanges.filter(({ over }) => !over);
        const exchange = open[which % Math.max(1, open.length)];
        const current = all.at(-1) as Map<string, Service>;
        if (what === 'send') {
          const timeouts = { requestMs: (which % 3) * 200, perTryMs: (which % 2) * 100, idleMs: (which % 4) * 300 };
          clients.push(send(current.get('orders') as Service, { timeouts }));
        } else if (what === 'advance') clock.advance(which % 250);
        else if (what === 'reload') {
          const next = compileServices(
            [{ ...config(), endpoints: [endpointConfig(`n${all.length}:1`)] }],
            current,
            deps,
          );
          all.push(next);
          retireServices(current.values(), next.values());
        } else if (what === 'abort') clients[which % clients.length]?.controller?.abort(new Error('gone'));
        else if (exchange === undefined || what === 'stray') continue;
        else if (what === 'respond') exchange.respond(200).data('.');
        else if (what === 'interim') exchange.respond(103);
        else if (what === 'end') exchange.end();
        else if (what === 'refuse') exchange.fail(transportError('SLV_UPSTREAM_REFUSED', { unsent: true }));
        else exchange.fail(transportError('SLV_UPSTREAM_RESET'));
        const inFlight = countInFlight(all);
        if (inFlight !== network.exchanges.filter(({ over }) => !over).length) return false;
      }
      clock.advance(1_000);
      for (const exchange of network.exchanges) if (!exchange.over) exchange.fail(transportError('SLV_UPSTREAM_RESET'));
      return countInFlight(all) === 0 && clients.every(({ endings }) => endings === 1) && wheel.waiting === 0;
    }),
    { numRuns: 300 },
  );
});

function countInFlight(all: readonly ReadonlyMap<string, Service>[]): number {
  const endpoints = new Set(all.flatMap((services) => [...services.values()].flatMap((service) => service.endpoints)));
  let sum = 0;
  for (const { inFlight } of endpoints) {
    if (inFlight < 0) return Number.NaN;
    sum += inFlight;
  }
  return sum;
}

import { type AddressInfo, createServer, type Server } from 'node:net';
import t, { type Test } from 'tap';
import { RESOLUTION_MS, TimerWheel } from '../../src/timer-wheel.ts';
import { appProblems, watchApps } from '../../src/upstream/app-watch.ts';
import { compileServices } from '../../src/upstream/compile-services.ts';
import { NO_EVENTS } from '../../src/upstream/events.ts';
import type { Service } from '../../src/upstream/service.ts';
import { eventually } from '../e2e/support/sockets.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { serviceConfig } from '../support/fake-upstream.ts';

function watched(t: Test, ports: readonly number[]) {
  const clock = new FakeClock();
  const told: string[] = [];
  const events = {
    ...NO_EVENTS,
    application: (service: string, endpoint: string, accepting: boolean) =>
      void told.push(`${service} ${endpoint} ${accepting}`),
  };
  const makeTransport = () => {
    throw new Error('nothing is sent');
  };
  const config = serviceConfig(ports.map((port) => `127.0.0.1:${port}`));
  const deps = { wheel: new TimerWheel(clock), makeTransport, events, idOf: (name: string) => name };
  const service = compileServices([config], null, deps).get('orders') as Service;
  t.teardown(() => service.destroy());
  watchApps(service);
  return { clock, told, service };
}

async function listen(t: Test, port = 0): Promise<{ server: Server; port: number; connections: () => number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.on('error', () => undefined).resume();
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { server, port: (server.address() as AddressInfo).port, connections: () => connections };
}

t.test('one that accepts is looked at once a second, and no more once it is retired', async (t) => {
  const { port, connections } = await listen(t);
  const { clock, told, service } = watched(t, [port]);
  t.same(appProblems(service, true), ['application of "orders" has not been tried yet']);
  t.same(appProblems(service, false), [], 'after a reload that is no reason');
  await eventually(() => told.length === 1, 'the first look');
  t.same([told, appProblems(service, true)], [[`orders 127.0.0.1:${port} true`], []]);
  watchApps(service);
  clock.advance(900);
  clock.advance(100 + 2 * RESOLUTION_MS);
  await eventually(() => connections() === 2, 'the second look');
  t.equal(told.length, 1, 'nothing has changed');
  service.endpoints[0].retire();
  clock.advance(5_000);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(connections(), 2);
});

t.test('one that does not is looked at again soon, and later ever more rarely', async (t) => {
  const { server, port } = await listen(t);
  await new Promise((resolve) => server.close(resolve));
  const { clock, told, service } = watched(t, [port]);
  await eventually(() => told.length === 1, 'the first look');
  t.same(appProblems(service, false), [`application of "orders" does not accept connections at 127.0.0.1:${port}`]);
  const again = await listen(t, port);
  clock.advance(60);
  t.equal(service.endpoints[0].accepting, false);
  clock.advance(40 + 2 * RESOLUTION_MS);
  await eventually(() => told.length === 2, 'the second look');
  t.same([told[1], again.connections()], [`orders 127.0.0.1:${port} true`, 1]);
});

t.test('one of several is enough', async (t) => {
  const { server, port: closed } = await listen(t);
  await new Promise((resolve) => server.close(resolve));
  const { port } = await listen(t);
  const { told, service } = watched(t, [closed, port]);
  await eventually(() => told.length === 2, 'both are looked at');
  t.same(appProblems(service, true), []);
});

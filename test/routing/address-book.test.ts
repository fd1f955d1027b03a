// Which service an address stands for at the outbound side of a hop.
import fc from 'fast-check';
import t from 'tap';
import type { EndpointConfig, ServiceConfig } from '../../src/config/model.ts';
import { formatHostPort } from '../../src/http/address.ts';
import { parseAuthority } from '../../src/http/authority.ts';
import { addressBook, calledHost, serviceAddresses } from '../../src/routing/address-book.ts';
import { HERE, route, service } from './support/fixtures.ts';

function endpoint(address: string, hop: string | null = null): EndpointConfig {
  return { address, hop, weight: 1, zone: null, priority: 0, labels: {}, at: HERE };
}

function at(name: string, ...endpoints: (string | readonly [string, string])[]): ServiceConfig {
  const list = endpoints.map((one) => (typeof one === 'string' ? endpoint(one) : endpoint(...one)));
  return service(name, { endpoints: list });
}

function called(services: readonly ServiceConfig[], authority: string, routes = [route('edge')]): string {
  const { host, port } = parseAuthority(authority);
  return calledHost(addressBook({ services, routes }), host as string, port);
}

t.test('an address leads to its service, by endpoint and by hop, with the port that it has', async (t) => {
  const services = [at('Stock', ['10.0.0.5:3000', '10.0.0.6:15001'], '[fd00::5]:3000'), at('cart', 'cart.internal:80')];
  t.equal(called(services, '10.0.0.5:3000'), 'stock');
  t.equal(called(services, '10.0.0.6:15001'), 'stock');
  t.equal(called(services, '[FD00:0::5]:3000'), 'stock', 'however the address is written');
  t.equal(called(services, 'Cart.internal'), 'cart', 'port 80 where none is said');
  t.equal(called(services, 'cart.internal:80'), 'cart');
  t.equal(called(services, 'cart.internal:81'), 'cart.internal');
  t.equal(called(services, '10.0.0.5'), '10.0.0.5');
  t.equal(called(services, 'stock:3000'), 'stock', 'a name is its own answer');
});

t.test('what speaks TCP is no address of a service', async (t) => {
  const db = { ...at('db', ['10.0.0.7:5432', '10.0.0.7:15432']), protocol: 'tcp' as const };
  t.equal(called([db], '10.0.0.7:5432'), '10.0.0.7');
  t.strictSame(serviceAddresses({ services: [db] }), []);
});

t.test('what belongs to two services belongs to neither', async (t) => {
  const services = [at('a', '10.0.0.5:80', '10.0.0.5:81'), at('b', '10.0.0.5:80'), at('c', '10.0.0.5:80')];
  t.equal(called(services, '10.0.0.5:80'), '10.0.0.5');
  t.equal(called(services, '10.0.0.5:81'), 'a');
  t.equal(called([at('a', '10.0.0.5:80', '10.0.0.5:80')], '10.0.0.5:80'), 'a', 'twice the same service is one');
});

t.test('names go before addresses', async (t) => {
  const services = [at('a', 'b:80', 'a:80', 'x.shop.internal:80'), at('B', '10.0.0.5:80')];
  t.equal(called(services, 'b:80'), 'b', 'the name of another service');
  t.same(
    serviceAddresses({ services }).map(({ host }) => host),
    ['a', 'x.shop.internal', '10.0.0.5'],
    'whose address nobody may take for that of its endpoint',
  );
  const routes = [route('shop', { gateways: [], internal: ['B'], hosts: ['*.shop.internal'] })];
  t.equal(called(services, 'x.shop.internal:80'), 'a');
  t.equal(called(services, 'x.shop.internal:80', routes), 'x.shop.internal', 'the host of a written route');
});

t.test('the loopback address of an application is that of its own machine', async (t) => {
  const remote = [at('a', ['127.0.0.1:3000', '10.0.0.6:15001'], ['localhost:3001', '10.0.0.6:15001'])];
  t.same(serviceAddresses({ services: remote }), [{ service: 'a', host: '10.0.0.6', port: 15_001, what: 'hop' }]);
  const local = [at('a', ['127.0.0.1:3000', '127.0.0.1:15001']), at('b', '[::1]:3000')];
  t.equal(called(local, '127.0.0.1:3000'), 'a', 'a hop on loopback is on this machine');
  t.equal(called(local, '[::1]:3000'), 'b', 'without a hop everybody dials it as it is');
});

t.test('an address leads to a service only when that service alone has it', async () => {
  const address = fc.record({
    host: fc.constantFrom('10.0.0.1', 'fd00::1', 'x.internal'),
    port: fc.constantFrom(80, 81),
  });
  const names = ['a', 'b', 'c'];
  fc.assert(
    fc.property(fc.array(fc.array(address, { maxLength: 3 }), { maxLength: 3 }), address, (lists, asked) => {
      const written = lists.map((list) => list.map(({ host, port }) => formatHostPort(host, port)));
      const wanted = formatHostPort(asked.host, asked.port);
      const owners = names.filter((_name, index) => written[index]?.includes(wanted));
      const got = called(
        written.map((list, index) => at(names[index], ...list)),
        wanted,
      );
      return owners.length === 1 ? got === owners[0] : got === parseAuthority(wanted).host;
    }),
  );
});

// The demo's orders service: its answer needs the inventory service, which it calls through its own hop.
import { get } from 'node:http';
import { json } from 'node:stream/consumers';
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';

interface Order {
  readonly id: string;
  readonly item: string;
  readonly amount: number;
}

const orders: readonly Order[] = [
  { id: '1', item: 'tea', amount: 2 },
  { id: '2', item: 'cups', amount: 6 },
];

/**
 * What ties the call to the request that it is made for, in logs and traces. Selvedge cannot know which that is: an application that
 * passes these on makes one trace of both.
 */
const CONTEXT = ['x-request-id', 'traceparent', 'tracestate', 'baggage', 'b3'] as const;

/** Asks a service of the mesh: the hop finds it by the Host header. */
function call(outbound: string, service: string, path: string, cause: FastifyRequest): Promise<unknown> {
  const headers: Record<string, string> = { host: service };
  for (const name of CONTEXT) {
    const value = cause.headers[name];
    if (typeof value === 'string') headers[name] = value;
  }
  return new Promise((resolve, reject) => {
    const request = get(new URL(path, outbound), { headers, timeout: 5_000 }, (response) => {
      if (response.statusCode === 200) return resolve(json(response));
      response.resume();
      reject(new Error(`${service} answered ${response.statusCode}`));
    });
    request.on('timeout', () => request.destroy(new Error(`${service} did not answer`)));
    request.on('error', reject);
  });
}

/** `outbound` is the URL of the hop's outbound listener. */
export function orderService({ version, outbound }: { version: string; outbound: string }): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true });

  async function withStock(order: Order, cause: FastifyRequest): Promise<object> {
    const { inStock } = (await call(outbound, 'inventory', `/stock/${order.item}`, cause)) as { inStock: number };
    // What is new in v2: it says whether the order can be sent.
    return version === 'v1' ? { ...order, inStock } : { ...order, inStock, ready: inStock >= order.amount };
  }

  app.get('/orders', async (request) => ({
    version,
    orders: await Promise.all(orders.map((order) => withStock(order, request))),
  }));
  app.get<{ Params: { id: string } }>('/orders/:id', async (request, reply) => {
    const order = orders.find(({ id }) => id === request.params.id);
    if (order === undefined) return reply.code(404).send({ version, error: `no order ${request.params.id}` });
    return { version, ...(await withStock(order, request)) };
  });
  return app;
}

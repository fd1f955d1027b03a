// The demo's inventory service: how many of a thing are in stock.
import Fastify, { type FastifyInstance } from 'fastify';

const stock: Readonly<Record<string, number>> = { tea: 12, cups: 4, kettle: 0 };

export function inventory(): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true });
  app.get('/stock', async () => stock);
  app.get<{ Params: { item: string } }>('/stock/:item', async ({ params: { item } }, reply) => {
    if (!Object.hasOwn(stock, item)) return reply.code(404).send({ error: `no item ${item}` });
    return { item, inStock: stock[item] };
  });
  return app;
}

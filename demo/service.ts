// Runs one of the demo's services by itself, as docker-compose.yml does: `node demo/service.ts orders`.
import type { FastifyInstance } from 'fastify';
import { inventory } from './inventory.ts';
import { orderService } from './orders.ts';
import { web } from './web.ts';

const services: Readonly<Record<string, () => FastifyInstance>> = {
  web,
  inventory,
  orders: () => orderService({ version: process.env.VERSION ?? 'v1', outbound: process.env.OUTBOUND ?? '' }),
};

const name = process.argv[2] ?? '';
if (!Object.hasOwn(services, name)) {
  console.error(`usage: node demo/service.ts ${Object.keys(services).join('|')}`);
  process.exit(2);
}

const app = services[name]();
const address = await app.listen({ host: process.env.HOST ?? '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
console.log(`${name} listens on ${address}`);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void app.close());

// The shop of config/shop.yaml: its services and every role of the mesh, in one process.
import { join } from 'node:path';
import { home } from '../bin/home.js';
import { openProcessLog } from '../src/runtime/process-log.ts';
import { inventory } from './inventory.ts';
import { orderService } from './orders.ts';
import { type ChosenPorts, choosePorts } from './ports.ts';
import { web } from './web.ts';

const root = join(import.meta.dirname, '..');

/** npm passes a terminal's Ctrl-C on although the terminal has delivered it already: within this many milliseconds it is one. */
const SAME_SIGNAL_MS = 1_000;

/** The copy of Selvedge that the command line would run. */
const { createSelvedge } = (await import(home().url('index'))) as typeof import('../src/index.ts');

/** Resolves once everything listens; a signal ends the process. */
export async function runShop(): Promise<void> {
  const { ports, moved } = await choosePorts(process.env);
  for (const [name, port] of Object.entries(ports)) process.env[name] = String(port);

  const outbound = `http://127.0.0.1:${ports.ORDERS_OUTBOUND}`;
  const services = [
    { app: web(), port: ports.WEB_PORT },
    { app: orderService({ version: 'v1', outbound }), port: ports.ORDERS_V1_PORT },
    { app: orderService({ version: 'v2', outbound }), port: ports.ORDERS_V2_PORT },
    { app: inventory(), port: ports.INVENTORY_PORT },
  ];
  // The table says what listens where; from then on the log says what changes.
  const log = openProcessLog({ format: process.stdout.isTTY ? 'text' : 'json', level: 'warn' });
  const selvedge = await createSelvedge({ config: join(root, 'config/shop.yaml'), logger: log.logger });
  let stoppedAt: number | null = null;
  const stop = async (): Promise<void> => {
    if (stoppedAt !== null) {
      if (performance.now() - stoppedAt > SAME_SIGNAL_MS) process.exit(1);
      return;
    }
    stoppedAt = performance.now();
    process.stdout.write('\nDraining …\n');
    await selvedge.close();
    await Promise.all(services.map(({ app }) => app.close()));
    process.stdout.write('Stopped.\n');
    process.exitCode = 0;
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);

  try {
    await Promise.all(services.map(({ app, port }) => app.listen({ host: '127.0.0.1', port })));
    await selvedge.start();
  } catch (error) {
    // Stopped before it had started.
    if (stoppedAt !== null) return;
    throw error;
  }
  process.stdout.write(announcement(ports, moved));
  log.logger.level = 'info';
}

function announcement(ports: ChosenPorts['ports'], moved: ChosenPorts['moved']): string {
  const edge = `http://localhost:${ports.EDGE_PORT}`;
  const rows = [
    ['gateway public', edge, ''],
    ['web', `127.0.0.1:${ports.WEB_PORT}`, `hop :${ports.WEB_INBOUND} in, :${ports.WEB_OUTBOUND} out`],
    [
      'orders v1',
      `127.0.0.1:${ports.ORDERS_V1_PORT}`,
      `hop :${ports.ORDERS_INBOUND} in, :${ports.ORDERS_OUTBOUND} out`,
    ],
    ['orders v2', `127.0.0.1:${ports.ORDERS_V2_PORT}`, 'the same hop'],
    [
      'inventory',
      `127.0.0.1:${ports.INVENTORY_PORT}`,
      `hop :${ports.INVENTORY_INBOUND} in, :${ports.INVENTORY_OUTBOUND} out`,
    ],
    ['admin', `http://127.0.0.1:${ports.ADMIN_PORT}`, '/routes /services /endpoints /metrics /config'],
  ];
  const width = (column: number): number => Math.max(...rows.map((row) => row[column].length));
  const table = rows.map(([name, address, note]) => `  ${name.padEnd(width(0))}  ${address.padEnd(width(1))}  ${note}`);
  const notes = moved.map(({ name, taken, instead }) => `Port ${taken} is in use: ${name} is ${instead}.`);
  return `
${[...notes, ...(notes.length > 0 ? [''] : []), ...table.map((line) => line.trimEnd())].join('\n')}

Try:
  curl ${edge}/orders/1                       # edge → hop → orders → hop → hop → inventory
  curl -H 'x-version: v2' ${edge}/orders/1    # a header chooses the version
  curl http://127.0.0.1:${ports.ADMIN_PORT}/routes                         # what the routes are
  curl -N ${edge}/events                      # server-sent events, through the edge and a hop

The config is config/shop.yaml; edit it while this runs. Ctrl-C drains and stops.
`;
}

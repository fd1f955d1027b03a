// What a service costs that shares a hop: the memory of one hop for ten services less that of one for a single service, over nine.
import { join } from 'node:path';
import { rounded, table } from './figures.ts';
import { memoryMiB } from './measure.ts';
import { BACKEND_PORT } from './nginx.ts';
import { PORTS, type Serve, stop } from './processes.ts';
import { startSelvedge } from './selvedge.ts';
import { steadyLoad } from './steady.ts';

const SERVICES = 10;
/** The inbound ports of the services follow it. */
const FIRST_PORT = PORTS + 80;
/** Requests a second to all services together, and connections: the same for one as for ten. */
const RATE = 500;
const CONNECTIONS = 40;

export interface SharedHop {
  readonly oneOwnMiB: number;
  readonly tenOwnMiB: number;
  readonly perServiceMiB: number;
}

/** Loads every service of both hops for `seconds`; both have the whole config, as every hop of a mesh does. */
export async function shareHop(dir: string, keep: Serve['keep'], seconds: number): Promise<SharedHop> {
  const one = await ownMiB(dir, keep, 1, seconds);
  const ten = await ownMiB(dir, keep, SERVICES, seconds);
  const perService = (ten - one) / (SERVICES - 1);
  process.stdout.write(
    `${table(
      ['a shared hop', 'own MiB'],
      [
        ['for one service', rounded(one, 1)],
        [`for ${SERVICES}`, rounded(ten, 1)],
        ['each further service', rounded(perService, 1)],
      ],
    )}\n`,
  );
  return { oneOwnMiB: rounded(one, 1), tenOwnMiB: rounded(ten, 1), perServiceMiB: rounded(perService, 1) };
}

async function ownMiB(dir: string, keep: Serve['keep'], count: number, seconds: number): Promise<number> {
  const names = Array.from({ length: SERVICES }, (_, at) => `service-${at}`);
  const services = names.map((name, at) => [
    name,
    {
      endpoints: [{ address: `127.0.0.1:${BACKEND_PORT}`, hop: `127.0.0.1:${FIRST_PORT + at}` }],
      internal: {
        inbound: { host: '127.0.0.1', port: FIRST_PORT + at },
        outbound: { host: '127.0.0.1', port: FIRST_PORT + SERVICES + at },
        app: `127.0.0.1:${BACKEND_PORT}`,
      },
    },
  ]);
  const config = {
    version: 1,
    admin: { port: 0 },
    mesh: { mtls: 'off' },
    telemetry: { accessLog: { format: 'json' } },
    services: Object.fromEntries(services),
  };
  const served = names.slice(0, count);
  const child = await startSelvedge({
    dir,
    name: `shared-${count}`,
    config,
    port: FIRST_PORT,
    words: served.flatMap((name) => ['--internal', name]),
    log: join(dir, `shared-${count}.log`),
    keep,
  });
  await Promise.all(
    served.map((host, at) =>
      steadyLoad({ port: FIRST_PORT + at, host, rate: RATE / count, connections: CONNECTIONS / count, seconds }),
    ),
  );
  const { own } = memoryMiB(child.pid as number);
  await stop(child);
  return own;
}

// Which ports the demo uses: the ones that config/shop.yaml names, or a free one where another program has it.
import { type AddressInfo, createServer } from 'node:net';

/** Environment variables that config/shop.yaml reads, with its defaults. */
const PORTS = {
  EDGE_PORT: 8080,
  ADMIN_PORT: 9901,
  WEB_PORT: 3000,
  ORDERS_V1_PORT: 3001,
  ORDERS_V2_PORT: 3002,
  INVENTORY_PORT: 3003,
  WEB_INBOUND: 15001,
  WEB_OUTBOUND: 15002,
  ORDERS_INBOUND: 15011,
  ORDERS_OUTBOUND: 15012,
  INVENTORY_INBOUND: 15021,
  INVENTORY_OUTBOUND: 15022,
} as const;

export type PortName = keyof typeof PORTS;

export interface ChosenPorts {
  readonly ports: Readonly<Record<PortName, number>>;
  /** Ports that were taken, with what is used instead. */
  readonly moved: readonly { readonly name: PortName; readonly taken: number; readonly instead: number }[];
}

/** A port from the environment is taken as it is; any other that is in use gives way to a free one. */
export async function choosePorts(env: NodeJS.ProcessEnv): Promise<ChosenPorts> {
  const moved: { name: PortName; taken: number; instead: number }[] = [];
  const ports = {} as Record<PortName, number>;
  // All free ports are held until every one is chosen, so that no two are the same.
  const held: (() => void)[] = [];
  try {
    for (const [name, usual] of Object.entries(PORTS) as [PortName, number][]) {
      const host = name === 'EDGE_PORT' ? '0.0.0.0' : '127.0.0.1';
      const wanted = Number(env[name] || usual);
      let found = await hold(wanted, host);
      if (found === null && env[name]) throw new Error(`${name}: port ${wanted} is in use`);
      if (found === null) {
        found = await hold(0, host);
        if (found === null) throw new Error('no free port');
        moved.push({ name, taken: wanted, instead: found.port });
      }
      ports[name] = found.port;
      held.push(found.release);
    }
  } finally {
    for (const release of held) release();
  }
  return { ports, moved };
}

function hold(port: number, host: string): Promise<{ port: number; release: () => void } | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host, exclusive: true }, () => {
      resolve({ port: (server.address() as AddressInfo).port, release: () => server.close() });
    });
  });
}

// A whole Selvedge on free ports, in this process, from a config object; closed with the test.
import type { Test } from 'tap';
import { type ConfigInput, createSelvedge, type Selvedge } from '../../../src/index.ts';

export interface Running {
  readonly selvedge: Selvedge;
  /** Port of the first gateway's first listener. */
  readonly port: number;
  readonly url: string;
}

type Overrides = Partial<ConfigInput> & {
  readonly listener?: object;
  readonly gateway?: object;
  readonly service?: object;
  readonly route?: object;
};

/** One gateway, one service `app` with these endpoints, one route that takes everything. */
export function edgeTo(endpoints: readonly (string | number)[], overrides: Overrides = {}): ConfigInput {
  const { listener, gateway, service, route, ...top } = overrides;
  return {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0, ...listener }], ...gateway } },
    services: {
      app: {
        endpoints: endpoints.map((endpoint) => (typeof endpoint === 'number' ? `127.0.0.1:${endpoint}` : endpoint)),
        ...service,
      },
    },
    routes: [{ name: 'app', to: [{ service: 'app' }], ...route }],
    ...top,
  } as ConfigInput;
}

export async function run(t: Test, config: ConfigInput): Promise<Running> {
  const selvedge = await createSelvedge({ config, logger: false });
  await selvedge.start();
  t.teardown(() => selvedge.close({ timeoutMs: 0 }));
  const first =
    Object.entries(selvedge.addresses()).find(([key]) => key.startsWith('gateway/')) ??
    Object.entries(selvedge.addresses())[0];
  const { port } = first[1];
  return { selvedge, port, url: `http://127.0.0.1:${port}` };
}

// Certificates by a real SPIRE: what its agent sends is taken, rotation and a new root are noticed by no request, and neither is an agent that goes.
import { join } from 'node:path';
import { connect } from 'node:tls';
import t, { type Test } from 'tap';
import { openLoad } from '../support/open-load.ts';
import { freePort } from './support/ports.ts';
import { RunningProcess } from './support/process.ts';
import { eventually, httpUpstream } from './support/sockets.ts';
import { noSpire, Spire } from './support/spire.ts';

const ORDERS = 'spiffe://shop.internal/service/orders';
const PUBLIC = 'spiffe://shop.internal/gateway/public';
const CART = 'spiffe://shop.internal/service/cart';

/** A certificate of SPIRE begins 10 s before it is made, and its agent renews at half of its life: here after some 2 s. */
const SHORT_S = 15;

interface Identity {
  readonly certificates: readonly { readonly id: string; readonly expiresAt: string; readonly expired: boolean }[];
  readonly warnings: readonly string[];
}

/** One of the processes of the mesh, by its admin API. */
class Part {
  readonly #url: string;

  private constructor(admin: number) {
    this.#url = `http://127.0.0.1:${admin}`;
  }

  static async start(t: Test, config: object, ...roles: string[]): Promise<Part> {
    const admin = await freePort();
    const file = join(t.testdir({}), `${admin}.json`);
    await RunningProcess.start(t, file, { ...config, admin: { host: '127.0.0.1', port: admin } }, ...roles);
    return new Part(admin);
  }

  async identity(): Promise<Identity> {
    return (await (await fetch(`${this.#url}/identity`)).json()) as Identity;
  }

  async ready(): Promise<{ readonly status: number; readonly warnings: readonly string[] }> {
    const response = await fetch(`${this.#url}/readyz`);
    const { warnings } = (await response.json()) as { warnings: string[] };
    return { status: response.status, warnings };
  }

  /** Seconds, by id. */
  async expiry(): Promise<Readonly<Record<string, number>>> {
    const text = await (await fetch(`${this.#url}/metrics`)).text();
    const found = text.matchAll(/^selvedge_certificate_expiry_seconds\{id="(.*)"\} (\S+)$/gm);
    return Object.fromEntries([...found].map(([, id, seconds]) => [id, Number(seconds)]));
  }
}

t.test('a mesh whose certificates come from SPIRE', { skip: noSpire(), timeout: 45_000 }, async (t) => {
  const spire = await Spire.start(t, 'shop.internal', { [ORDERS]: SHORT_S, [PUBLIC]: SHORT_S, [CART]: 600 });
  /** Fingerprints of the gateway's certificates, as the application was told them. */
  const shown = new Set<string>();
  const strangers = new Set<string>();
  const { port: app } = await httpUpstream(t, (req, res) => {
    const said = String(req.headers['x-forwarded-client-cert']);
    const [, fingerprint, by] = /^Hash=([0-9a-f]{64});.*;URI=(.*)$/.exec(said) ?? [];
    if (by === PUBLIC) shown.add(fingerprint);
    else if (by !== CART) strangers.add(said);
    res.end('from orders');
  });
  const [port, inbound] = [await freePort(), await freePort()];
  const config = {
    version: 1,
    telemetry: { accessLog: false },
    drain: { grace: '0s', timeout: '2s' },
    mesh: { trustDomain: 'shop.internal', mtls: 'strict', identity: { spiffe: { socket: `unix://${spire.socket}` } } },
    gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: {
      orders: {
        endpoints: [{ address: `127.0.0.1:${app}`, hop: `127.0.0.1:${inbound}` }],
        internal: { inbound: { host: '127.0.0.1', port: inbound }, app: `127.0.0.1:${app}` },
      },
    },
    routes: [{ name: 'orders', to: 'orders' }],
  };
  const hop = await Part.start(t, config, '--internal', 'orders');
  const edge = await Part.start(t, config, '--gateway', 'public');
  const parts = [hop, edge];
  const identities = () => Promise.all(parts.map((part) => part.identity()));
  const expiries = async () => (await identities()).map(({ certificates }) => certificates[0].expiresAt);

  for (const [part, id] of [
    [hop, ORDERS],
    [edge, PUBLIC],
  ] as const) {
    const { certificates, warnings } = await part.identity();
    t.match(certificates, [{ id, expired: false }]);
    t.equal(certificates.length, 1, 'of the three that the agent sends');
    t.strictSame(warnings, []);
  }

  const load = openLoad({ port, rate: 50, seconds: 60 });
  t.teardown(() => load.stop());
  const renewed = async () => {
    const before = await expiries();
    const certificates = shown.size;
    await until(async () => (await expiries()).every((at, index) => at > before[index]), 'both have newer ones', 15);
    await eventually(() => shown.size > certificates, 'the gateway shows a newer one', 5_000);
  };

  await renewed();
  for (const [part, id] of [
    [hop, ORDERS],
    [edge, PUBLIC],
  ] as const)
    t.ok((await part.expiry())[id] > 5, 'the metric has followed');

  // A new root, and the old one trusted no more.
  const cart = await spire.fetch(CART);
  t.match(await ask(inbound, cart), /^HTTP\/1\.1 200/);
  const next = await spire.prepareRoot();
  await renewed();
  const old = await spire.activateRoot(next);
  await renewed();
  await spire.revokeRoot(old);
  await until(
    async () => !(await ask(inbound, cart)).startsWith('HTTP/1.1 200'),
    'a certificate below it is refused',
    5,
  );
  await renewed();
  t.match(await ask(inbound, await spire.fetch(CART)), /^HTTP\/1\.1 200/, 'one below the new root is not');

  await spire.stopAgent('SIGTERM');
  await until(async () => (await identities()).every(({ warnings }) => warnings.length === 1), 'both warn', 5);
  await spire.startAgent();
  await renewed();
  for (const { warnings } of await identities()) t.strictSame(warnings, [], 'it is back');

  await spire.stopAgent('SIGKILL');
  await until(async () => (await identities()).every(({ warnings }) => warnings.length === 1), 'both warn', 5);
  for (const part of parts) {
    const { status, warnings } = await part.ready();
    t.equal(status, 200, 'still ready');
    t.match(warnings, [/^the SPIFFE Workload API at .*; the certificate of spiffe:.* expires at \d{4}-/]);
  }
  await load.until(load.elapsedMs + 1_000);
  load.stop();
  const answers = await load.done;
  t.ok(answers.length > 100, 'requests were made');
  t.strictSame(
    answers.filter(({ status }) => status !== 200),
    [],
    'and none has failed',
  );
  t.strictSame([...strangers], [], 'nobody else was let in');
});

/** One request by somebody with this certificate: what came back. */
function ask(port: number, options: { readonly cert: string; readonly key: string }): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk;
  });
  socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n'));
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
  });
}

async function until(condition: () => Promise<boolean>, what: string, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

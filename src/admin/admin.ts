// What operators and orchestrators ask a running Selvedge: is it alive, is it ready, what does it run.
import type { AddressInfo } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Registry } from 'prom-client';
import type { Admin } from '../config/model.ts';
import { formatProblem } from '../config/problem.ts';
import { SelvedgeError } from '../errors.ts';
import type { AdminServer } from '../runtime/admin-slot.ts';
import type { Runtime } from '../runtime/control.ts';
import type { Answers, Health } from '../runtime/engine.ts';
import type { Loaded } from '../runtime/loaded.ts';
import type { ServiceDescription } from '../upstream/service.ts';
import { namesThisHost } from './host-check.ts';
import { ROLLOUT_PAGES, serveRollouts } from './rollouts.ts';

/** What the admin server shows of a runtime. */
export type Inspected = Pick<
  Runtime,
  'state' | 'loaded' | 'loadedAt' | 'revision' | 'lastRejected' | 'addresses' | 'engine'
>;

/** What `/metrics` answers. */
export type Measurements = Pick<Registry, 'contentType' | 'metrics'>;

/** Everything that can be asked, with what it answers. */
const PAGES: Readonly<Record<string, string>> = {
  '/': 'this list',
  '/livez': '200 while the process can answer at all',
  '/readyz': '200 while traffic is welcome, else 503 with the reasons',
  '/metrics': 'Prometheus metrics',
  '/config': 'the effective config (secrets left out), when it was loaded, and the last one that was rejected',
  '/routes': 'routes by listener: matches, backends, chain',
  '/identity': 'the certificates of this process in the mesh, and what could not be renewed',
  '/services': 'services with their subsets and endpoints',
  '/endpoints': 'every endpoint with its connections and load',
  '/authorization': 'what policies under audit would have denied, by target, caller and path',
  ...ROLLOUT_PAGES,
};

/** Listens on an address of its own. Rejects with the system's error when it cannot. */
export async function openAdmin(
  admin: Admin,
  runtime: Inspected,
  registry: Measurements,
  version: string,
): Promise<AdminServer> {
  const app = buildAdmin(admin, runtime, registry, version);
  try {
    await app.listen({ host: admin.host, port: admin.port });
  } catch (error) {
    await app.close();
    throw error;
  }
  const { address, port } = app.server.address() as AddressInfo;
  return { address: () => ({ host: address, port }), close: () => app.close() };
}

/** The app without a socket; `inject` drives it. */
export function buildAdmin(admin: Admin, runtime: Inspected, registry: Measurements, version: string): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true, bodyLimit: 1024, requestTimeout: 10_000 });
  const ask = async <K extends keyof Answers>(about: K, nothing: Answers[K]): Promise<Answers[K]> =>
    runtime.engine === null ? nothing : runtime.engine.ask(about);
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    if (namesThisHost(request.headers.host, admin.host, request.socket.localAddress)) return;
    throw new SelvedgeError('SLV_MISDIRECTED', `the admin server does not serve the host "${request.headers.host}"`, {
      detail: 'Ask by localhost, by an address of this machine, or by the name in admin.host.',
    });
  });
  app.setErrorHandler((error, _request, reply) => answerProblem(reply, error as Error));
  app.setNotFoundHandler((request, reply) => {
    const [path] = request.url.split('?', 1);
    const known = Object.hasOwn(PAGES, path);
    if (known) reply.header('allow', 'GET, HEAD');
    return sendProblem(
      reply,
      known ? 405 : 404,
      known ? 'Only GET is answered here' : 'There is no such page; / lists them',
    );
  });

  app.get('/', async () => ({ selvedge: version, pages: PAGES }));
  app.get('/livez', async () => ({ status: 'alive', state: runtime.state }));
  app.get('/readyz', async (_request, reply) => {
    const health = await healthOf(runtime);
    const ready = health.reasons.length === 0;
    if (!ready) reply.code(503);
    return { status: ready ? 'ready' : 'not ready', ...health };
  });
  app.get('/metrics', async (_request, reply) => {
    reply.header('content-type', registry.contentType);
    return registry.metrics();
  });
  app.get('/config', async () => ({
    revision: runtime.revision,
    loadedAt: runtime.loadedAt,
    listening: runtime.addresses(),
    lastRejected: describeRejection(runtime),
    config: await effective(runtime.loaded),
  }));
  app.get('/routes', async () => ({ routes: await ask('routes', []) }));
  app.get('/services', async () => ({ services: await ask('services', []) }));
  app.get('/endpoints', async () => ({
    endpoints: (await ask('services', [])).flatMap(endpointsOf),
  }));
  app.get('/identity', async () => (await ask('identity', null)) ?? NO_IDENTITY);
  app.get('/authorization', async () => ({ seen: await ask('seen', []) }));
  serveRollouts(
    app,
    () => runtime.engine?.rollouts ?? null,
    (statusCode, message) => Object.assign(new Error(message), { statusCode }),
  );
  return app;
}

/** Of a process that speaks to no hop, and is none. */
const NO_IDENTITY = { trustDomain: null, trusted: [], certificates: [], warnings: [] };

/** Whether traffic should come, or why it should go elsewhere. */
async function healthOf({ state, revision, engine }: Inspected): Promise<Health> {
  const inForce = engine === null || revision === 0 ? null : await engine.ask('health');
  const { warnings, inFlight, workers } = inForce ?? NOTHING_SERVED;
  const reasons =
    state === 'draining' || state === 'stopped'
      ? ['draining']
      : state !== 'running' || inForce === null
        ? ['no config is in force yet']
        : inForce.reasons;
  return { reasons, warnings, inFlight, ...(workers === undefined ? {} : { workers }) };
}

const NOTHING_SERVED: Health = { reasons: [], warnings: [], inFlight: 0 };

function describeRejection({ lastRejected }: Inspected) {
  if (lastRejected === null) return null;
  const { at, reason, problems } = lastRejected;
  return { at, reason, problems: problems.map((problem) => ({ ...problem, text: formatProblem(problem) })) };
}

function endpointsOf({ name, endpoints }: ServiceDescription) {
  return endpoints.map((endpoint) => ({ service: name, ...endpoint }));
}

function answerProblem(reply: FastifyReply, error: Error): FastifyReply {
  if (error instanceof SelvedgeError)
    return sendProblem(reply, error.statusCode, error.facts.detail ?? error.message, error.code);
  const status = (error as { readonly statusCode?: number }).statusCode ?? 500;
  return sendProblem(reply, status, error.message);
}

/** RFC 9457. */
function sendProblem(reply: FastifyReply, status: number, detail: string, code?: string): FastifyReply {
  return reply
    .code(status)
    .header('content-type', 'application/problem+json')
    .send(JSON.stringify({ status, detail, code }));
}

/** As users write it; null: not known. */
async function effective(loaded: Loaded | null): Promise<object | null> {
  const fault = await loaded?.whole;
  return fault == null ? (loaded?.provenance?.effective() ?? null) : null;
}

// What a CA service answers: certificates for requests with a join token or a certificate that ends soon, and the roots for everybody.
import { X509Certificate } from 'node:crypto';
import type { Server, ServerOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { plainAddress } from '../../http/address.ts';
import { issueForRequest } from '../authority.ts';
import { certificateFacts } from '../certificate-facts.ts';
import type { Clock } from '../clock.ts';
import type { IdentityLog } from '../deps.ts';
import { ipv6Octets } from '../host-name.ts';
import { keyOfRequest, MAX_REQUEST_BYTES } from '../signing-request.ts';
import { verifyPeer } from '../verify.ts';
import type { Audit } from './audit.ts';
import { checkToken } from './join-tokens.ts';
import type { LiveAuthority } from './live-authority.ts';
import { makeRateLimiter, type RateLimit } from './rate-limit.ts';
import { Refusal, sendRefusal } from './refusal.ts';
import { isRevoked } from './revoked.ts';

export interface CaLimits {
  /** An IPv4 address, or an IPv6 network of 64 bits. */
  readonly perAddress: RateLimit;
  readonly perIdentity: RateLimit;
}

/** A whole rack behind one address may start at once; a service may have a hundred copies. */
export const CA_LIMITS: CaLimits = {
  perAddress: { burst: 300, perMinute: 300 },
  perIdentity: { burst: 120, perMinute: 60 },
};

export interface CaAppDeps {
  readonly dir: string;
  readonly authority: LiveAuthority;
  readonly clock: Clock;
  readonly log: IdentityLog;
  readonly audit: Audit;
  /** Of certificates. */
  readonly lifeMs: number;
  readonly limits: CaLimits;
  /** For a request to arrive as a whole. */
  readonly requestTimeoutMs: number;
}

/** Bytes: a request for a certificate and a token, with what JSON adds. */
const BODY_LIMIT = MAX_REQUEST_BYTES + 8_192;

interface SvidBody {
  /** PEM. */
  readonly csr: string;
  readonly token?: string;
}

const SVID_BODY = {
  type: 'object',
  required: ['csr'],
  properties: { csr: { type: 'string', maxLength: MAX_REQUEST_BYTES }, token: { type: 'string', maxLength: 4_096 } },
} as const;

/** Who asks, proved. `spend` false: somebody else has spent the token meanwhile. */
interface Applicant {
  readonly id: string;
  readonly proof: { readonly token: string } | { readonly shown: string };
  spend(): Promise<boolean>;
}

export function buildCaApp(tls: ServerOptions, deps: CaAppDeps): FastifyInstance<Server> {
  const { authority, clock, audit, log } = deps;
  const addressLimit = makeRateLimiter(deps.limits.perAddress);
  const identityLimit = makeRateLimiter(deps.limits.perIdentity);
  const app = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT,
    requestTimeout: deps.requestTimeoutMs,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 100 },
    https: {
      ...tls,
      requestCert: true,
      // The certificate is judged where it is used: an expired one still reads the roots.
      rejectUnauthorized: false,
      handshakeTimeout: deps.requestTimeoutMs,
      headersTimeout: deps.requestTimeoutMs,
      requestTimeout: deps.requestTimeoutMs,
      connectionsCheckingInterval: Math.min(1_000, deps.requestTimeoutMs),
      keepAliveTimeout: 5_000,
      maxHeaderSize: 16_384,
    },
  });
  app.server.maxConnections = 1_000;

  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    if (request.url === '/healthz') return;
    const verdict = addressLimit(addressKey(addressOf(request)), clock.now());
    if (verdict.ok) return;
    // Not one line for each: whoever floods the service must not flood its log.
    if (verdict.first) audit({ event: 'refuse', from: addressOf(request), reason: 'rate_limited' });
    throw new Refusal('rate_limited', verdict);
  });

  app.get('/healthz', async (_request, reply) => {
    const problem = authority.problem();
    if (problem !== null) reply.code(503);
    return { status: problem === null ? 'good' : 'the CA directory cannot be read' };
  });

  app.get('/v1/bundle', async () => ({ bundle: authority.state().bundle }));

  app.post<{ Body: SvidBody }>('/v1/svid', { schema: { body: SVID_BODY } }, async (request) => {
    const from = addressOf(request);
    let applicant: Applicant | null = null;
    try {
      const { csr } = request.body;
      checkRequest(csr);
      applicant = await proven(request, deps);
      const { id, proof } = applicant;
      const verdict = identityLimit(id, clock.now());
      if (!verdict.ok) throw new Refusal('rate_limited', verdict);
      if (!(await applicant.spend())) throw new Refusal('token_used');
      const { issuer, bundle } = authority.state();
      const issued = issueForRequest(issuer, id, csr, { now: clock.now(), lifeMs: deps.lifeMs });
      const serial = new X509Certificate(issued.cert).serialNumber;
      const expiresAt = new Date(issued.expiresAt).toISOString();
      audit({ event: 'token' in proof ? 'issue' : 'renew', from, id, serial, expiresAt, ...proof });
      return { id, svid: issued.cert, bundle, expiresAt };
    } catch (error) {
      if (error instanceof Refusal) {
        const { reason, facts } = error;
        const { token, because: detail } = facts;
        audit({ event: 'refuse', from, id: applicant?.id, token, ...applicant?.proof, reason, detail });
      }
      throw error;
    }
  });

  app.setNotFoundHandler((_request, reply) => sendRefusal(reply, new Refusal('not_found')));
  app.setErrorHandler((error, _request, reply) => answer(reply, error as Error, log));
  return app;
}

function answer(reply: FastifyReply, error: Error, log: IdentityLog): FastifyReply {
  if (error instanceof Refusal) return sendRefusal(reply, error);
  const status = (error as { readonly statusCode?: unknown }).statusCode;
  if (typeof status === 'number' && status >= 400 && status < 500)
    return sendRefusal(reply, new Refusal('request_invalid', { status, detail: error.message }));
  log.warn(`a request could not be answered: ${error.message}`);
  return sendRefusal(reply, new Refusal('internal'));
}

/** Before a token is spent on it. */
function checkRequest(csr: string): void {
  try {
    keyOfRequest(csr);
  } catch (error) {
    throw new Refusal('csr_invalid', { detail: `The certificate signing request: ${(error as Error).message}` });
  }
}

/** By a token if there is one, else by the certificate of the connection. */
async function proven(request: FastifyRequest<{ Body: SvidBody }>, deps: CaAppDeps): Promise<Applicant> {
  const token = bearer(request.headers.authorization) ?? request.body.token;
  if (token !== undefined) return byToken(token, deps);
  const socket = request.raw.socket as TLSSocket;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new Refusal('credentials_missing');
  const verdict = verifyPeer(socket, deps.authority.bundles(), deps.clock.now(), 'client');
  if (!verdict.ok) throw new Refusal('certificate_invalid', { because: verdict.reason });
  const { id } = verdict.id;
  const shown = certificate.serialNumber;
  if (await isRevoked(deps.dir, id, certificateFacts(certificate).notBefore))
    throw new Refusal('certificate_revoked', { because: `${id}, serial ${shown}` });
  return { id, proof: { shown }, spend: async () => true };
}

async function byToken(token: string, { dir, clock }: CaAppDeps): Promise<Applicant> {
  const verdict = await checkToken(dir, token, clock.now());
  if (!verdict.ok) throw new Refusal(verdict.reason, { token: verdict.name ?? undefined });
  return { id: verdict.id, proof: { token: verdict.name }, spend: verdict.consume };
}

function bearer(authorization: string | undefined): string | undefined {
  if (authorization === undefined) return undefined;
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? '';
}

function addressOf({ raw }: FastifyRequest): string {
  return plainAddress(raw.socket.remoteAddress ?? '');
}

function addressKey(address: string): string {
  const [plain] = address.split('%', 1);
  return isIPv6(plain) ? ipv6Octets(plain).subarray(0, 8).toString('hex') : plain;
}

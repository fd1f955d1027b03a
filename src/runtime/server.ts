// Makes Node's server for a listener. The one place that knows which protocols it speaks.
import * as http from 'node:http';
import * as https from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import type { Limits, ListenerTls } from '../config/model.ts';
import { MeteredRequest } from '../http/metered-request.ts';
import type { Certificates } from './certificates.ts';
import { OneWriteResponse } from './response.ts';
import { takesUpgrade } from './upgrade-offer.ts';

/** How often Node looks for requests whose head is late. */
const HEADER_CHECK_MS = 500;
/** Node's own handshake timer, which cannot be changed later; the listener keeps its own. */
export const NEVER_MS = 2 ** 31 - 1;

/**
 * HTTP/1.1 over TCP or TLS. HTTP/2 fits here: `http2.createSecureServer` with `allowHTTP1` takes the same options and hands over the same
 * (req, res) pairs by its compatibility API.
 */
export function createServer(certificates: Certificates | null): http.Server {
  const server =
    certificates === null
      ? http.createServer(OPTIONS)
      : https.createServer({
          ...OPTIONS,
          ...TLS_OPTIONS,
          ...certificates.defaultOptions,
          SNICallback: (name, done) => done(null, certificates.choose(name.toLowerCase()).context),
        });
  server.timeout = 0;
  return server as http.Server;
}

/** The inbound side of a hop: a peer without a certificate that leads to a trusted root does not get past the handshake. */
export function createMeshServer(context: SecureContextOptions): http.Server {
  const peers = { requestCert: true, rejectUnauthorized: true };
  const server = https.createServer({ ...OPTIONS, ...TLS_OPTIONS, ...context, ...peers });
  server.timeout = 0;
  return server as unknown as http.Server;
}

const OPTIONS: http.ServerOptions<typeof MeteredRequest, typeof OneWriteResponse> = {
  IncomingMessage: MeteredRequest,
  ServerResponse: OneWriteResponse,
  insecureHTTPParser: false,
  joinDuplicateHeaders: false,
  noDelay: true,
  // Told apart from a repeated Host, and allowed to HTTP/1.0: see checkRequest.
  requireHostHeader: false,
  // Bodies are bounded by bodyIdleTimeout and bodyMinRate, not by one time for all sizes.
  requestTimeout: 0,
  connectionsCheckingInterval: HEADER_CHECK_MS,
  shouldUpgradeCallback: takesUpgrade,
};

const TLS_OPTIONS = { ALPNProtocols: ['http/1.1'], handshakeTimeout: NEVER_MS };

/** In force from the next connection, for timeouts and the number of connections at once. */
export function applyLimits(server: http.Server, limits: Limits): void {
  // Node counts the request target as a part of the head.
  (server as Adjustable).maxHeaderSize = Number.isFinite(limits.headerBytes)
    ? limits.headerBytes
    : Number.MAX_SAFE_INTEGER;
  // Node drops what is beyond it silently; one more shows that there was more.
  server.maxHeadersCount = Number.isFinite(limits.headerCount) ? limits.headerCount + 1 : 0;
  server.headersTimeout = limits.headerTimeoutMs;
  server.keepAliveTimeout = limits.keepAliveTimeoutMs;
  server.maxConnections = limits.connections;
}

/** In force from the next handshake. Without `changed` only the policy is set and session tickets stay valid. */
export function applyTls(server: http.Server, tls: ListenerTls, certificates: Certificates, changed: boolean): void {
  const secure = server as Adjustable & https.Server;
  secure.requestCert = tls.clientCertificate !== null;
  secure.rejectUnauthorized = tls.clientCertificate?.mode === 'require';
  if (changed) secure.setSecureContext(certificates.defaultOptions);
}

/** Options that Node keeps as plain properties and reads for every connection. */
interface Adjustable {
  maxHeaderSize?: number;
  requestCert?: boolean;
  rejectUnauthorized?: boolean;
}

// What comes on an open connection: a request, an offer to upgrade, CONNECT, or none of them. Handed over to the sink, or refused.
import type * as http from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import type { Code } from '../errors.ts';
import { checkRequest } from '../http/request-check.ts';
import { codeOfClientError } from './client-error.ts';
import { connectionOf, type OpenConnection } from './connection.ts';
import { EXPECT_CONTINUE, type RequestSink } from './listener-spec.ts';
import { newRefusal, type Refusal, refuseInTurn, refuseRequest } from './refusal.ts';
import { putBack, takesUpgrade } from './upgrade-offer.ts';

/**
 * Requests of one connection that may be under way at once. Node hands over all that it finds in one read, up to some 1,800, and each
 * would go upstream; no client that means well pipelines this deep.
 */
const MAX_PIPELINED = 100;

export class RequestIntake {
  readonly #sink: RequestSink;
  readonly #log: Logger;
  #draining = false;
  #left = false;

  constructor(sink: RequestSink, log: Logger) {
    this.#sink = sink;
    this.#log = log;
  }

  /** Every response from now on says `connection: close`. */
  drain(): void {
    this.#draining = true;
  }

  /** Nothing is left to serve requests with. */
  leave(): void {
    this.#draining = true;
    this.#left = true;
  }

  listenTo(server: http.Server): void {
    server.on('request', (req, res) => this.#request(req, res));
    server.on('checkContinue', (req, res) => {
      (req as { [EXPECT_CONTINUE]?: boolean })[EXPECT_CONTINUE] = true;
      this.#request(req, res);
    });
    server.on('checkExpectation', (req, res) => this.#request(req, res, 'SLV_EXPECTATION_FAILED'));
    server.on('upgrade', (req, socket, head) => this.#upgrade(server, req, socket, head));
    server.on('connect', (req, socket, head) => this.#connect(server, req, socket, head));
    server.on('clientError', (error, socket) => {
      const connection = connectionOf(socket);
      if (connection !== null) this.#unreadable(connection, error, socket as Socket);
    });
  }

  #request(req: http.IncomingMessage, res: http.ServerResponse, refusal: Code | null = null): void {
    const connection = connectionOf(req.socket) as OpenConnection;
    if (connection.closing) return;
    // Behind an offer to upgrade that is not taken, Node's parser drops what it has read of the next request: there must be none.
    if (this.#draining || req.headers.upgrade !== undefined) res.shouldKeepAlive = false;
    const code = check(connection, req) ?? refusal ?? this.#gone();
    connection.asked(res);
    if (code === null) {
      this.#handOver(connection, () => this.#sink.request(connection, req, res));
      return;
    }
    connection.refused = true;
    refuseRequest(res, this.#refusal(connection, code), connection.listener.errorPages);
  }

  #upgrade(server: http.Server, req: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = connectionOf(socket) as OpenConnection;
    socket.on('error', ignore);
    if (connection.closing) return;
    const code = check(connection, req) ?? this.#gone();
    if (code !== null) this.#refuseInTurn(connection, code);
    else if (takesUpgrade(req)) this.#handOver(connection, () => this.#sink.upgrade(connection, req, socket, head));
    else if (connection.busy) connection.response?.once('close', () => parseAgain(server, connection, req, head));
    else parseAgain(server, connection, req, head);
  }

  #connect(server: http.Server, req: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = connectionOf(socket) as OpenConnection;
    socket.on('error', ignore);
    if (connection.closing) return;
    const code = refusesConnect(connection) ?? check(connection, req) ?? checkConnect(req) ?? this.#gone();
    if (code !== null) {
      this.#refuseInTurn(connection, code);
      return;
    }
    const enter = (): void => {
      if (!socket.writable) return;
      this.#handOver(connection, () =>
        this.#sink.connect(connection, req, socket, head, () => openTunnel(server, connection, req, head)),
      );
    };
    // Responses to earlier requests come first.
    if (connection.busy) connection.response?.once('close', enter);
    else enter();
  }

  #gone(): Code | null {
    return this.#left ? 'SLV_DRAINING' : null;
  }

  /** What is thrown here would end the process: it ends the connection instead. */
  #handOver({ socket }: OpenConnection, enter: () => void): void {
    try {
      enter();
    } catch (error) {
      this.#log.error({ err: error }, 'a request failed before it entered its chain');
      socket.destroy();
    }
  }

  /** Node's parser has given up, or the socket has failed. */
  #unreadable(connection: OpenConnection, error: NodeJS.ErrnoException, socket: Socket): void {
    if (connection.refused) return;
    if (connection.tunnel !== null && beginsTls(error))
      this.#log.warn(
        { authority: connection.tunnel },
        'TLS inside CONNECT to a service of the mesh: call it by http://',
      );
    const code = codeOfClientError(error);
    const silent = connection.fresh && socket.bytesRead === 0;
    if (code === null || silent) socket.destroy(error);
    // What follows `connection: close` is no request any more (RFC 9112 section 9.6); the answer before it still goes out.
    else if (error.code !== 'HPE_CLOSED_CONNECTION') this.#refuseInTurn(connection, code, error);
  }

  #refuseInTurn(connection: OpenConnection, code: Code, cause?: Error): void {
    connection.refused = true;
    refuseInTurn(connection, this.#refusal(connection, code, cause));
  }

  /** Counted and logged. */
  #refusal({ listener, remoteAddress }: OpenConnection, code: Code, cause?: Error): Refusal {
    const refusal = newRefusal(code);
    this.#sink.rejected(listener, code, remoteAddress);
    this.#log.debug({ ...refusal, remoteAddress, err: cause }, 'request refused');
    return refusal;
  }
}

function check(connection: OpenConnection, req: http.IncomingMessage): Code | null {
  const { limits, role } = connection.listener;
  const code = checkRequest(req, limits);
  if (code !== null) return code;
  if (connection.inFlight >= MAX_PIPELINED) return 'SLV_CONNECTION_LIMIT';
  if (req.method === 'TRACE' && role === 'gateway') return 'SLV_METHOD_UNSUPPORTED';
  return connection.servesAuthority(req.headers.host ?? '') ? null : 'SLV_MISDIRECTED';
}

/** Only Node before 24.9 gets here: see `putBack`. */
function parseAgain(
  server: http.Server,
  { socket, scheme }: OpenConnection,
  req: http.IncomingMessage,
  head: Buffer,
): void {
  socket.off('error', ignore);
  putBack(req, socket, head);
  server.emit(scheme === 'https' ? 'secureConnection' : 'connection', socket);
}

/** An outbound side is an HTTP proxy, once a connection; a local port of it leads to one service and is none. */
function refusesConnect({ listener, tunnel }: OpenConnection): Code | null {
  const { role, fixedService } = listener;
  return role === 'outbound' && fixedService === null && tunnel === null ? null : 'SLV_METHOD_UNSUPPORTED';
}

/** It has no content (RFC 9110 section 9.3.6): whoever reads a length there sees the tunnel begin elsewhere than we do. */
function checkConnect({ headers }: http.IncomingMessage): Code | null {
  const framed = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  return framed ? 'SLV_BAD_REQUEST' : null;
}

/** What follows the 200 enters like any request: as a new connection for Node's parser, as the same one for us. */
function openTunnel(server: http.Server, connection: OpenConnection, req: http.IncomingMessage, head: Buffer): void {
  const { socket } = connection;
  if (!socket.writable) return;
  connection.tunnel = req.url as string;
  socket.off('error', ignore);
  socket.setTimeout(0);
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  if (head.length > 0) socket.unshift(head);
  server.emit('connection', socket);
}

/** Content type 22, handshake (RFC 8446 section 5.1), where a request line was expected. */
function beginsTls(error: NodeJS.ErrnoException & { readonly rawPacket?: Buffer }): boolean {
  return error.rawPacket?.[0] === 22;
}

function ignore(): void {
  // Whoever has the socket sees its close.
}

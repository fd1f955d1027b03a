// A request that left HTTP (101): the two sockets joined raw, with backpressure both ways, until either side ends.

import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyReply } from 'fastify';
import type { HeaderChanges } from '../config/model.ts';
import type { ResponseHeaders } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import { applyToReply } from '../http/header-changes.ts';
import { connectionTokens, HOP_BY_HOP } from '../http/hop-by-hop.ts';
import type { RequestExchange } from './exchange.ts';

export interface UpgradedUpstream {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly socket: Duplex;
  /** Bytes that the upstream sent right behind its 101. */
  readonly head: Buffer | null;
}

/**
 * Until the upstream agrees nobody reads from the client, so nobody would see it leave. What it sends too early waits in the
 * socket's buffer (64 KiB at most, then in the kernel).
 */
export function leaveWithClient(client: Duplex): void {
  client.on('readable', lookForEnd).on('end', leave);
}

/** Somebody else reads from it now. */
export function takeFromClient(client: Duplex): void {
  client.off('readable', lookForEnd).off('end', leave);
}

/** Takes nothing: with an empty buffer it brings the end to light. */
function lookForEnd(this: Duplex): void {
  this.read(0);
}

function leave(this: Duplex): void {
  this.destroy();
}

/** Writes the 101 and joins the sockets. The exchange ends when both are closed. */
export function openTunnel(
  exchange: RequestExchange,
  reply: FastifyReply,
  upstream: UpgradedUpstream,
  changes: readonly HeaderChanges[],
  idleMs: number,
): void {
  const client = exchange.upgradeSocket;
  const server = upstream.socket;
  if (client === null || client.destroyed || exchange.aborted) {
    server.destroy();
    return;
  }
  takeFromClient(client);
  reply.hijack();
  for (const change of changes) applyToReply(change, reply);
  const { res } = exchange;
  res.statusCode = upstream.status;
  res.detachSocket(client as never);
  client.write(switchingHead(reply, upstream), 'latin1');
  if (upstream.head !== null && upstream.head.length > 0) client.write(upstream.head);
  if (exchange.upgradeHead !== null && exchange.upgradeHead.length > 0) server.write(exchange.upgradeHead);

  const stopIdle = watchIdle(client, server, idleMs, exchange);
  let open = 2;
  const closed = (): void => {
    open--;
    if (open > 0) return;
    stopIdle();
    exchange.bytesOut += (server as { bytesRead?: number }).bytesRead ?? 0;
    res.emit('finish');
    exchange.end();
  };
  join(client, server, closed);
  join(server, client, closed);
}

/** Data and end go from one to the other; a failure of one destroys the other. */
function join(from: Duplex, to: Duplex, closed: () => void): void {
  from.on('error', () => to.destroy());
  from.once('close', () => {
    endSoon(to);
    closed();
  });
  from.pipe(to);
}

/** Net and TLS sockets flush what was written before they close. */
function endSoon(socket: Duplex): void {
  const { destroySoon } = socket as { destroySoon?: () => void };
  if (destroySoon === undefined) socket.destroy();
  else destroySoon.call(socket);
}

/** Nothing in either direction for `idleMs`: both are closed. Checked coarsely, by counting bytes. */
function watchIdle(client: Duplex, server: Duplex, idleMs: number, exchange: RequestExchange): () => void {
  if (idleMs <= 0) return () => undefined;
  const moved = (): number => bytesOf(client) + bytesOf(server);
  let before = moved();
  const timer = setInterval(() => {
    const now = moved();
    if (now === before) {
      exchange.reason ??= 'idle_timeout';
      const error = new SelvedgeError('SLV_IDLE_TIMEOUT', `nothing was sent either way for ${idleMs} ms`);
      client.destroy(error);
      server.destroy(error);
    }
    before = now;
  }, idleMs);
  timer.unref();
  return () => clearInterval(timer);
}

function bytesOf(socket: Duplex): number {
  const { bytesRead = 0, bytesWritten = 0 } = socket as { bytesRead?: number; bytesWritten?: number };
  return bytesRead + bytesWritten;
}

/** The 101 with the upstream's headers and the plugins'; `Upgrade` and `Connection` are written anew. */
function switchingHead(reply: FastifyReply, upstream: UpgradedUpstream): string {
  const { status, headers } = upstream;
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  if (headers.upgrade !== undefined) head += `upgrade: ${headers.upgrade}\r\nconnection: upgrade\r\n`;
  const drop = headers.connection === undefined ? [] : connectionTokens(String(headers.connection));
  const own = reply.getHeaders();
  for (const name in headers) {
    if (HOP_BY_HOP.has(name) || drop.includes(name) || own[name] !== undefined) continue;
    for (const value of [headers[name]].flat()) head += `${name}: ${value}\r\n`;
  }
  for (const [name, value] of Object.entries(own)) {
    for (const item of [value].flat()) head += `${name}: ${String(item)}\r\n`;
  }
  return `${head}\r\n`;
}

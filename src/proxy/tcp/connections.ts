// Every connection of a TCP service that is open in this process, across reloads: counted, logged when it is over, ended with the process.
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { reasonOf } from '../../errors.ts';
import { openAccessLog, STDOUT } from '../../lines/access-log.ts';
import type { LineWriter } from '../../lines/line-writer.ts';
import type { TcpArrival } from '../../runtime/listener-spec.ts';
import { TcpConnection, type TcpConnectionOwner } from './connection.ts';
import { tcpLine } from './line.ts';
import { type TcpMetrics, tcpMetrics } from './metrics.ts';
import type { TcpPlan } from './plan.ts';

export class TcpConnections implements TcpConnectionOwner {
  readonly #registry: Registry;
  readonly #log: Logger;
  readonly #onEnd: () => void;
  readonly #metrics: TcpMetrics;
  /** Bounded by `limits.connections` of each listener. */
  readonly #open = new Set<TcpConnection>();
  readonly #idPrefix = randomBytes(9).toString('base64url');
  #sequence = 0;
  /** Opened with the first line. */
  #writer: LineWriter | null = null;

  /** @param onEnd called whenever a connection is over */
  constructor(registry: Registry, log: Logger, onEnd: () => void) {
    this.#registry = registry;
    this.#log = log;
    this.#onEnd = onEnd;
    this.#metrics = tcpMetrics(registry, () => this.#open);
  }

  get size(): number {
    return this.#open.size;
  }

  accept(plan: TcpPlan, arrival: TcpArrival): void {
    const { peer, remoteAddress, socket, wire } = arrival;
    // Gone while it waited for its config to be in force.
    if (socket.destroyed) return;
    const { plainCallers, service } = plan;
    if (plainCallers !== null && peer === null && socket === wire)
      this.#metrics.plaintext.inc({ service: service.name, caller: plainCallers[remoteAddress] ?? 'unknown' });
    const id = `${this.#idPrefix}${(++this.#sequence).toString(36)}`;
    const connection = new TcpConnection(id, plan, arrival, this);
    this.#open.add(connection);
    connection.begin();
  }

  abortAll(): void {
    for (const connection of [...this.#open]) connection.abort(reasonOf('SLV_DRAINING'));
  }

  close(): void {
    this.#writer?.close();
    this.#writer = null;
  }

  decided({ service, side, verdict, attempts }: TcpConnection): void {
    const { connects, authorization } = this.#metrics;
    for (const { endpoint, outcome } of attempts) connects.inc({ service, side, endpoint, outcome });
    if (verdict !== null)
      authorization.inc({ target: `service ${service}`, policy: verdict.policy ?? '', verdict: verdict.verdict });
  }

  over(connection: TcpConnection): void {
    const { service, side, reason } = connection;
    this.#open.delete(connection);
    this.#metrics.countBytes(connection);
    this.#metrics.connections.inc({ service, side, reason: reason ?? '' });
    this.#write(connection);
    this.#onEnd();
  }

  #write(connection: TcpConnection): void {
    const { id, plan, arrival, startedAt, verdict, endpoint } = connection;
    if (plan.accessLog === null) return;
    const { role, owner, name } = arrival.listener;
    const record = {
      id,
      role,
      owner,
      listener: name,
      clientAddress: arrival.remoteAddress,
      peer: arrival.peer?.id ?? null,
      verdict: verdict?.verdict ?? null,
      policy: verdict?.policy ?? null,
      service: connection.service,
      endpoint: endpoint?.address ?? null,
      attempts: connection.attempts,
      reason: connection.reason,
      durationMs: plan.service.wheel.now() - startedAt,
      bytesIn: connection.bytesIn,
      bytesOut: connection.bytesOut,
    };
    const line = tcpLine(record, plan.accessLog);
    if (line === null) return;
    this.#writer ??= openAccessLog(STDOUT, this.#registry, this.#log);
    this.#writer.write(line);
  }
}

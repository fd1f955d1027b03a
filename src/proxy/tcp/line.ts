// One connection of a TCP service as one line of the access log, once it is over.

import type { AccessLog } from '../../config/model.ts';
import { positionOf } from '../../http/position.ts';
import type { Attempt } from '../../plugin.ts';

/** pino's level for what is ordinary. */
const INFO = 30;
const ERROR = 50;

/** Of reasons those that are nobody's failure: the client's doing, a policy's, or the end of this process. */
const ORDINARY: ReadonlySet<string> = new Set(['client_aborted', 'forbidden', 'idle_timeout', 'draining']);

export interface TcpRecord {
  readonly id: string;
  readonly role: string;
  readonly owner: string;
  readonly listener: string;
  readonly clientAddress: string;
  /** SPIFFE id that the other end has proven; null: none. */
  readonly peer: string | null;
  readonly verdict: string | null;
  readonly policy: string | null;
  readonly service: string;
  readonly endpoint: string | null;
  readonly attempts: readonly Attempt[];
  /** Null: both ends closed it. */
  readonly reason: string | null;
  readonly durationMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** Null: the sample leaves it out. A connection is long by nature, so `slow` says nothing about it. */
export function tcpLine(record: TcpRecord, { sample, always, fields }: AccessLog): string | null {
  const failed = record.reason !== null && !ORDINARY.has(record.reason);
  const wanted = (always.errors && failed) || sample === 1 || positionOf(record.id) < sample;
  if (!wanted) return null;
  const { attempts } = record;
  const tried = attempts.length > 1 || (attempts.length === 1 && attempts[0].outcome !== 'ok');
  const line = {
    level: failed ? ERROR : INFO,
    time: new Date().toISOString(),
    msg: 'connection',
    connectionId: record.id,
    role: record.role,
    owner: record.owner,
    listener: record.listener,
    clientAddress: record.clientAddress,
    peer: record.peer ?? undefined,
    protocol: 'TCP',
    reason: record.reason ?? undefined,
    verdict: record.verdict ?? undefined,
    policy: record.policy ?? undefined,
    service: record.service,
    endpoint: record.endpoint ?? undefined,
    attempts: tried
      ? attempts.map(({ endpoint, outcome, durationMs }) => ({ endpoint, outcome, durationMs: micros(durationMs) }))
      : undefined,
    durationMs: micros(record.durationMs),
    bytesIn: record.bytesIn,
    bytesOut: record.bytesOut,
    ...fields,
  };
  return `${JSON.stringify(line)}\n`;
}

/** Milliseconds with three decimals. */
function micros(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}

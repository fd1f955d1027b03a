// What a listener does with a connection that is no HTTP: the one service that it leads to, and who may have it.
import type { AccessLog } from '../../config/model.ts';
import type { Authorization } from '../../policies/authorization.ts';
import type { Caller } from '../../upstream/caller.ts';
import type { Service } from '../../upstream/service.ts';

export interface TcpPlan {
  /** At the inbound side of a hop: its applications. */
  readonly service: Service;
  /** Who this process is to hops; null where they speak plain TCP. */
  readonly caller: Caller | null;
  /** Null: nobody is asked. */
  readonly authorization: Authorization | null;
  /** Connections without TLS are counted, by these names for their addresses; null: they are what is wanted. */
  readonly plainCallers: Readonly<Record<string, string>> | null;
  /** Null: off. */
  readonly accessLog: AccessLog | null;
}

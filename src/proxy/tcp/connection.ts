// The journey of one connection that is no HTTP: may this peer, connect to an endpoint, join both, tell how it ended.
import { reasonOf, type SelvedgeError } from '../../errors.ts';
import { hashOf } from '../../http/position.ts';
import type { Attempt } from '../../plugin.ts';
import { authorize, type Verdict } from '../../policies/authorization.ts';
import { connectionToAuthorize } from '../../policies/authorization-tcp.ts';
import type { TcpArrival } from '../../runtime/listener-spec.ts';
import type { Endpoint } from '../../upstream/endpoint.ts';
import { connectTcp } from '../../upstream/tcp/connect-tcp.ts';
import type { TcpLine } from '../../upstream/tcp/dial-tcp.ts';
import { greet, greets } from '../../upstream/tcp/greeting.ts';
import { reset, Splice, type SpliceEnd } from '../../upstream/tcp/splice.ts';
import type { OpenTcp } from './metrics.ts';
import type { TcpPlan } from './plan.ts';

/** Milliseconds that a hop which is refused gets to read why. */
const LINGER_MS = 1_000;

const REASONS: Readonly<Record<NonNullable<SpliceEnd>, string>> = {
  client: reasonOf('SLV_CLIENT_ABORTED'),
  server: reasonOf('SLV_UPSTREAM_RESET'),
  idle: reasonOf('SLV_IDLE_TIMEOUT'),
};

/** Each is called once, and in this order. */
export interface TcpConnectionOwner {
  /** An endpoint is connected to, or none will be. */
  decided(connection: TcpConnection): void;
  over(connection: TcpConnection): void;
}

export class TcpConnection implements OpenTcp {
  readonly id: string;
  readonly plan: TcpPlan;
  readonly arrival: TcpArrival;
  readonly startedAt: number;
  readonly attempts: Attempt[] = [];
  verdict: Verdict | null = null;
  endpoint: Endpoint | null = null;
  /** Null while it is open, and where both ends closed it. */
  reason: string | null = null;
  readonly #owner: TcpConnectionOwner;
  #splice: Splice | null = null;
  #giveUp: (() => void) | null = null;
  #counted = { in: 0, out: 0 };
  #ended = false;

  constructor(id: string, plan: TcpPlan, arrival: TcpArrival, owner: TcpConnectionOwner) {
    this.id = id;
    this.plan = plan;
    this.arrival = arrival;
    this.#owner = owner;
    this.startedAt = plan.service.wheel.now();
  }

  get service(): string {
    return this.plan.service.name;
  }

  get side(): string {
    return this.arrival.listener.role;
  }

  get bytesIn(): number {
    return this.#splice?.fromClient ?? 0;
  }

  get bytesOut(): number {
    return this.#splice?.fromServer ?? 0;
  }

  takeBytes(): { in: number; out: number } {
    const moved = { in: this.bytesIn - this.#counted.in, out: this.bytesOut - this.#counted.out };
    this.#counted = { in: this.bytesIn, out: this.bytesOut };
    return moved;
  }

  /** Nothing of what the client sends is read before an endpoint is connected to. */
  begin(): void {
    const { service, caller, authorization } = this.plan;
    const { socket, peer, remoteAddress } = this.arrival;
    socket.once('close', this.#clientGone);
    if (authorization !== null) this.verdict = authorize(authorization, connectionToAuthorize(peer, remoteAddress));
    if (this.verdict?.verdict === 'denied') {
      this.#refuse('forbidden');
      return;
    }
    const hashKey = service.hashBy === null ? Math.floor(service.random() * 2 ** 32) : hashOf(remoteAddress);
    const giveUp = connectTcp(
      { service, caller, hashKey, attempts: this.attempts },
      {
        connected: (line, endpoint) => this.#join(line, endpoint),
        failed: (error) => this.#failed(error),
      },
    );
    if (!this.#ended && this.#splice === null) this.#giveUp = giveUp;
  }

  /** At once, whatever is on its way. */
  abort(reason: string): void {
    this.reason ??= reason;
    if (this.#splice === null) this.#stop();
    else this.#splice.cut();
  }

  #join(server: TcpLine, endpoint: Endpoint): void {
    const { socket } = this.arrival;
    const { idleTimeoutMs: idleMs } = endpoint.connections;
    this.#giveUp = null;
    this.endpoint = endpoint;
    this.#owner.decided(this);
    socket.off('close', this.#clientGone);
    greet(socket, 'connected');
    const options = { idleMs, wheel: this.plan.service.wheel };
    this.#splice = new Splice(this.arrival, server, options, (end) => {
      endpoint.release();
      this.#finish(end === null ? null : REASONS[end]);
    });
    this.#splice.join();
  }

  #failed(error: SelvedgeError): void {
    this.#giveUp = null;
    if (error.code === 'SLV_FORBIDDEN') this.#refuse(error.reason);
    else {
      this.reason ??= error.reason;
      this.#stop();
    }
  }

  /** A hop is told, so that it tries no other endpoint; everybody else sees a reset. */
  #refuse(reason: string): void {
    const { socket } = this.arrival;
    this.reason ??= reason;
    if (!greets(socket)) {
      this.#stop();
      return;
    }
    greet(socket, 'denied');
    socket.end();
    socket.resume();
    const timer = this.plan.service.wheel.after(LINGER_MS, () => socket.destroy());
    socket.once('close', () => timer.cancel());
  }

  #stop(): void {
    reset(this.arrival);
  }

  readonly #clientGone = (): void => {
    this.#giveUp?.();
    this.#finish(reasonOf('SLV_CLIENT_ABORTED'));
  };

  #finish(reason: string | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.reason ??= this.arrival.cut === true ? reasonOf('SLV_DRAINING') : reason;
    if (this.#splice === null) this.#owner.decided(this);
    this.#owner.over(this);
  }
}

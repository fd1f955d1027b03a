// A connection to a TCP service: an endpoint as load balancing says, and another one where nothing could be connected to.
import { CODES, type Code, reasonOf, SelvedgeError } from '../../errors.ts';
import type { Attempt } from '../../plugin.ts';
import type { Caller } from '../caller.ts';
import { judge } from '../ejection.ts';
import type { Endpoint } from '../endpoint.ts';
import { isFault } from '../outcome.ts';
import type { Service } from '../service.ts';
import { dialTcp, type TcpLine } from './dial-tcp.ts';

/** Endpoints that are tried for one connection. Until one is connected to nothing was sent, so each may be. */
const MAX_TRIES = 3;

export interface TcpCall {
  readonly service: Service;
  /** Who this process is to hops; null where they speak plain TCP. */
  readonly caller: Caller | null;
  /** Where ring-hash and maglev put this connection. */
  readonly hashKey: number;
  /** One a try, added here. */
  readonly attempts: Attempt[];
}

/** Exactly one of the two is called, unless it is given up before. */
export interface ConnectOwner {
  /** The endpoint counts it as in flight until `release`. */
  connected(line: TcpLine, endpoint: Endpoint): void;
  failed(error: SelvedgeError): void;
}

/** Returns what gives it up. */
export function connectTcp(call: TcpCall, owner: ConnectOwner): () => void {
  const { service, caller, hashKey, attempts } = call;
  const { wheel, drawable, outlierDetection } = service;
  const tried: Endpoint[] = [];
  let giveUp: () => void = () => {};
  let last: SelvedgeError | null = null;

  function next(): void {
    const endpoint = tried.length < Math.min(MAX_TRIES, drawable.length) ? draw() : null;
    if (endpoint === null) owner.failed(last ?? noEndpoint(service));
    else attempt(endpoint);
  }

  /** Null: there is none that was not tried. */
  function draw(): Endpoint | null {
    const endpoint = service.draw({ subset: null, tried, preferred: null, sticky: null, hashKey }, true) ?? null;
    return endpoint === null || tried.includes(endpoint) ? null : endpoint;
  }

  function attempt(endpoint: Endpoint): void {
    tried.push(endpoint);
    const { address, inFlight, connections, health, latency } = endpoint;
    if (inFlight >= connections.max) {
      health.probing = false;
      last = full(service, endpoint);
      next();
      return;
    }
    const startedAt = wheel.now();
    const made: Attempt = { endpoint: address, outcome: 'pending', status: 0, durationMs: 0 };
    attempts.push(made);
    endpoint.acquire();
    const stop = dialTcp(endpoint, caller, wheel, {
      opened(line) {
        const now = wheel.now();
        made.outcome = 'ok';
        made.durationMs = now - startedAt;
        latency.observe(made.durationMs, now);
        judge(service, endpoint, true, outlierDetection, now);
        owner.connected(line, endpoint);
      },
      failed(error) {
        const now = wheel.now();
        made.outcome = outcomeOf(error);
        made.durationMs = now - startedAt;
        endpoint.release();
        last = error;
        if (!isFault(error)) {
          // The same policies hold at every hop of the service.
          health.probing = false;
          owner.failed(error);
          return;
        }
        latency.observeFailure(made.durationMs, now);
        judge(service, endpoint, false, outlierDetection, now);
        next();
      },
    });
    giveUp = () => {
      stop();
      made.outcome = reasonOf('SLV_CLIENT_ABORTED');
      made.durationMs = wheel.now() - startedAt;
      health.probing = false;
      endpoint.release();
    };
  }

  next();
  return () => giveUp();
}

function outcomeOf({ code }: SelvedgeError): string {
  return Object.hasOwn(CODES, code) ? reasonOf(code as Code) : reasonOf('SLV_INTERNAL');
}

function noEndpoint({ name, endpoints }: Service): SelvedgeError {
  const none = endpoints.length === 0 ? 'has no endpoint' : 'has no healthy endpoint';
  return new SelvedgeError('SLV_NO_ENDPOINT', `service "${name}" ${none}`);
}

function full({ name }: Service, { address, connections }: Endpoint): SelvedgeError {
  return new SelvedgeError('SLV_POOL_FULL', `service "${name}": ${connections.max} connections to ${address} are open`);
}

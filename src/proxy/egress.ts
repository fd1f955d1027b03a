// Behind the chain of a request that leaves the mesh: asks the gate, and goes where the gate says, as a request or as a tunnel.
import type { FastifyReply } from 'fastify';
import { canonicalAddress } from '../egress/address-class.ts';
import { type Destinations, EGRESS } from '../egress/destinations.ts';
import { countEgress, decideEgress, type EgressCounter, type EgressDecision, egressDenied } from '../egress/gate.ts';
import type { EgressCall, EgressPolicy } from '../egress/policy.ts';
import type { Resolver } from '../egress/resolve.ts';
import { openEgressTunnel } from '../egress/tunnel.ts';
import { SelvedgeError } from '../errors.ts';
import { parseHost } from '../http/address.ts';
import type { Wheel } from '../timer-wheel.ts';
import type { RequestExchange, WayOut } from './exchange.ts';
import type { TargetBackend } from './target.ts';
import { takeFromClient } from './upgrade.ts';

/** What outlives configs. */
export interface EgressState {
  readonly resolver: Resolver;
  readonly destinations: Destinations;
  readonly counter: EgressCounter;
  readonly wheel: Wheel;
}

const HTTP_PORT = 80;

/** Milliseconds that a tunnel may rest. */
const TUNNEL_IDLE_MS = 300_000;

export function wayOut(policy: EgressPolicy, state: EgressState): WayOut {
  const { resolver, destinations, counter, wheel } = state;

  async function decide(exchange: RequestExchange, call: EgressCall): Promise<EgressDecision> {
    exchange.service = EGRESS;
    const decision = await decideEgress(policy, resolver, call);
    record(exchange, decision);
    if (decision.verdict === 'denied') {
      countEgress(counter, call.from, decision);
      throw egressDenied(call, decision);
    }
    return decision;
  }

  return {
    async backend(exchange) {
      const { req, path, encodedSlash } = exchange;
      const call = callOf(exchange, { method: req.method as string, path, ambiguous: encodedSlash });
      const decision = await decide(exchange, call);
      countEgress(counter, call.from, decision);
      const service = destinations.service(call.host, call.port, decision.addresses);
      return { ...BACKEND, service };
    },
    async tunnel(exchange, reply) {
      const call = callOf(exchange, null);
      const decision = await decide(exchange, call);
      if (exchange.aborted) return;
      const { upgradeSocket: client, upgradeHead: head } = exchange;
      if (client === null) throw new SelvedgeError('SLV_INTERNAL', 'a CONNECT came without its socket');
      const { addresses, tls, verdict } = decision;
      const audit = verdict === 'audit_denied' || policy.audit;
      const { host, port } = call;
      // Once a tunnel, by what its first words made of the verdict; by the verdict itself where none were said.
      let counted = false;
      const count = (judged: EgressDecision): void => {
        if (!counted) countEgress(counter, call.from, judged);
        counted = true;
      };
      await new Promise<void>((resolve, reject) => {
        openEgressTunnel(
          { client, head, host, port, addresses, tls, audit, idleMs: TUNNEL_IDLE_MS, wheel },
          {
            opened(address) {
              exchange.endpoint = address;
              answer(exchange, reply);
            },
            failed(error) {
              count(decision);
              reject(error);
            },
            judged(error) {
              const judged = error === null ? decision : { ...decision, verdict: refusedVerdict(audit) };
              if (error !== null) exchange.reason = error.reason;
              record(exchange, judged);
              count(judged);
            },
            closed({ toClient }, error) {
              count(decision);
              exchange.bytesOut += toClient;
              if (error !== null) exchange.reason ??= error.reason;
              exchange.res.emit('finish');
              exchange.end();
              resolve();
            },
          },
        );
      });
    },
  };
}

function refusedVerdict(audit: boolean): 'audit_denied' | 'denied' {
  return audit ? 'audit_denied' : 'denied';
}

function record(exchange: RequestExchange, { policy, verdict }: EgressDecision): void {
  exchange.decidedBy = policy;
  exchange.verdict = verdict;
}

/** From here on the socket is nobody's response any more. */
function answer(exchange: RequestExchange, reply: FastifyReply): void {
  const { res, upgradeSocket } = exchange;
  takeFromClient(upgradeSocket as NonNullable<typeof upgradeSocket>);
  reply.hijack();
  exchange.tunnelled = true;
  res.statusCode = 200;
  res.detachSocket(upgradeSocket as never);
  upgradeSocket?.write('HTTP/1.1 200 Connection Established\r\n\r\n', 'latin1');
}

/**
 * Throws for a host that is no plain name and no plain address: `2130706433`, `0x7f.1` and `0177.0.0.1` are all 127.0.0.1 to a system that
 * looks them up.
 */
function callOf(exchange: RequestExchange, http: EgressCall['http']): EgressCall {
  const written = exchange.host;
  const host = parseHost(written);
  const port = exchange.port === null ? HTTP_PORT : Number(exchange.port);
  if (host === null || port === 0)
    throw new SelvedgeError('SLV_BAD_HOST', `"${written}" is no plain host name or address to call`);
  return { from: exchange.owner, host: canonicalAddress(host) ?? host, port, http };
}

const BACKEND: Omit<TargetBackend, 'service'> = Object.freeze({
  config: Object.freeze({
    service: EGRESS,
    subset: null,
    weight: 1,
    rewrite: null,
    requestHeaders: null,
    responseHeaders: null,
    at: Object.freeze({ file: '', line: 0, column: 0 }),
  }),
  weight: 1,
  session: null,
  requestHeaders: [],
  responseHeaders: [],
});

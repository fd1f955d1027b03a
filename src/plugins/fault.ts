// Delays and fails requests on purpose, in preHandler: after authentication and limits, before anything is sent upstream.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { positionOf } from '../http/position.ts';
import { Counter, definePlugin, parseDurationMs, parseShare, SelvedgeError } from '../plugin.ts';
import { FaultOptions, faultProblems } from '../policies/fault.ts';

const INJECTED = 'selvedge_faults_injected_total';

export default definePlugin(
  {
    name: 'fault',
    options: FaultOptions,
    check: faultProblems,
  },
  async (app, { delay, abort, header }) => {
    const delayMs = delay === undefined ? 0 : (parseDurationMs(delay.time) as number);
    const delayShare = delay === undefined ? 0 : (parseShare(delay.share ?? '100%') as number);
    const abortShare = abort === undefined ? 0 : (parseShare(abort.share ?? '100%') as number);
    const marker = header?.toLowerCase();
    const { owner } = app.chain;
    const injected = app.shared(
      'fault counter',
      () => {
        const help = 'Requests that were delayed or failed on purpose';
        return new Counter({ name: INJECTED, help, labelNames: ['owner', 'route', 'kind'], registers: [app.metrics] });
      },
      () => app.metrics.removeSingleMetric(INJECTED),
    );

    app.addHook('preHandler', (request, reply, done) => {
      const { id, route } = request.selvedge;
      if (route === null || (marker !== undefined && request.headers[marker] === undefined)) {
        done();
        return;
      }
      // By id, so that the draw can be repeated; the owner is in it, so that edge and hops draw each for themselves.
      const drawn = (kind: 'delay' | 'abort', share: number): boolean => {
        if (positionOf(`fault/${owner}/${kind}/${id}`) >= share) return false;
        injected.inc({ owner, route: route.name, kind });
        return true;
      };
      const goOn = (): void => {
        if (!drawn('abort', abortShare)) done();
        else done(new SelvedgeError('SLV_FAULT_INJECTED', 'an error on purpose', { status: abort?.status }));
      };
      if (drawn('delay', delayShare)) wait(request, reply, delayMs, goOn);
      else goOn();
    });
  },
);

/** Once the client is gone there is nothing to go on for. */
function wait(request: FastifyRequest, reply: FastifyReply, ms: number, goOn: () => void): void {
  // The response to an upgrade has no connection of its own.
  const client = request.selvedge.upgrade === null ? reply.raw : request.raw.socket;
  const left = (): void => clearTimeout(timer);
  const timer = setTimeout(() => {
    client.off('close', left);
    goOn();
  }, ms);
  timer.unref();
  client.once('close', left);
}

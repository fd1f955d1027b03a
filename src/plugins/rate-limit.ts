// Grants each client so many requests in a time, or so many at a time; what comes beyond is answered 429 before it costs anything more.
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify';
import { definePlugin, SelvedgeError } from '../plugin.ts';
import { costOf } from './rate-limit/cost.ts';
import { headerWriter, retryAfter } from './rate-limit/headers.ts';
import { isLate, pluginKeys } from './rate-limit/key.ts';
import type { Answer, Limit } from './rate-limit/limit.ts';
import { openLimits } from './rate-limit/open-limits.ts';
import { rateLimitProblems } from './rate-limit/option-problems.ts';
import { type LimitSettings, RateLimitOptions, trustedHeaders } from './rate-limit/options.ts';
import { openReports } from './rate-limit/reports.ts';

export default definePlugin(
  {
    name: 'rate-limit',
    options: RateLimitOptions,
    check: rateLimitProblems,
    identityHeaders: trustedHeaders,
    unrouted: true,
  },
  async (app, options) => {
    /** Where counts are kept may not answer. */
    const remote = options.shared || app.central !== null;
    const reports = openReports(app, options.shared ? 'Redis' : 'the supervisor');
    const limits = await openLimits(app, options, reports);
    const settings = limits.map((limit) => limit.settings);
    const writeHeaders = headerWriter(options.headers, settings);
    const costKnownLater = settings.some((limit) => 'cost' in limit && limit.cost.responseHeader !== null);
    /** What was granted to what is under way; null: it is over. */
    const held =
      costKnownLater || settings.some((limit) => 'inFlight' in limit)
        ? new WeakMap<FastifyRequest, readonly Answer[] | null>()
        : null;

    /** Asks every limit of `asked`; a request that one of them refuses is charged to none. */
    async function judge(asked: readonly Limit[], request: FastifyRequest, reply: FastifyReply): Promise<void> {
      const granted: Answer[] = [];
      const told: [LimitSettings, Answer][] = [];
      for (const limit of asked) {
        const { name, shadow } = limit.settings;
        let answer: Answer;
        try {
          const asking = limit.ask(request);
          answer = asking instanceof Promise ? await asking : asking;
        } catch (cause) {
          if (!remote) throw cause;
          const result = shadow ? 'allow' : options.onStoreFailure;
          reports.storeFailed(limit.settings, result, cause);
          if (!shadow) request.selvedge.because = `rate_limit_store_${result}`;
          if (result === 'allow') continue;
          undo(granted);
          throw new SelvedgeError('SLV_LIMITS_UNKNOWN', `limit "${name}" was not counted`, { cause });
        }
        const { settings } = answer.limit;
        if (answer.granted) granted.push(answer);
        else reports.limited(settings, request.selvedge.route?.name ?? '');
        if (shadow) continue;
        if (!answer.granted) {
          request.selvedge.because = `rate_limit_${name}`;
          writeHeaders(reply, [[settings, answer]]);
          undo(granted);
          throw new SelvedgeError('SLV_RATE_LIMITED', `limit "${name}" is used up`, { retryAfter: retryAfter(answer) });
        }
        told.push([settings, answer]);
      }
      // The client may have left meanwhile.
      if (held?.get(request) === null) for (const answer of granted) answer.limit.end(answer);
      else held?.set(request, [...(held.get(request) ?? []), ...granted]);
      writeHeaders(reply, told);
    }

    const late = limits.filter(({ settings: { key, plans }, settings: limit }) => {
      return isLate(key) || plans !== null || ('cost' in limit && limit.cost.header !== null);
    });
    const early = limits.filter((limit) => !late.includes(limit));
    // With `done`: a hook that returns a promise costs two more.
    const hookFor =
      (asked: readonly Limit[]) => (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction) => {
        judge(asked, request, reply).then(() => done(), done);
      };
    if (early.length > 0) app.addHook('onRequest', hookFor(early));
    // In preHandler: whatever verifies claims or sets headers has run, wherever it stands in the list.
    if (late.length > 0) app.addHook('preHandler', hookFor(late));
    app.addHook('onReady', async () => {
      const missing = settings.flatMap(({ key }) => pluginKeys(key)).find((name) => !app.rateLimitKeys.has(name));
      // Without a route, the plugin that makes it may have stayed behind: then the address is charged.
      if (missing === undefined || app.chain.unrouted) return;
      throw new Error(`no plugin of this chain makes the key "${missing}" by app.rateLimitKeys.set("${missing}", …)`);
    });
    if (held === null) return;
    if (costKnownLater)
      app.addHook('onSend', async (request, reply) => {
        for (const answer of held.get(request) ?? []) {
          const { settings } = answer.limit;
          if (!('cost' in settings) || settings.cost.responseHeader === null) continue;
          answer.limit.settle(answer, costOf(settings.cost, reply.getHeader(settings.cost.responseHeader)));
        }
      });
    app.addHook('onResponse', (request, _reply, done) => {
      for (const answer of held.get(request) ?? []) answer.limit.end(answer);
      held.set(request, null);
      done();
    });
  },
);

function undo(granted: readonly Answer[]): void {
  for (const answer of granted) answer.limit.undo(answer);
}

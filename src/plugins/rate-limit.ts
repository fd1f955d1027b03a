// Grants each client so many requests in a time, or so many at a time; what comes beyond is answered 429 before it costs anything more.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { definePlugin, SelvedgeError } from '../plugin.ts';
import { headerWriter, retryAfter } from './rate-limit/headers.ts';
import { needsClaims } from './rate-limit/key.ts';
import type { Answer, Limit } from './rate-limit/limit.ts';
import { openLimits } from './rate-limit/open-limits.ts';
import { rateLimitProblems } from './rate-limit/option-problems.ts';
import { type LimitSettings, RateLimitOptions } from './rate-limit/options.ts';
import { openReports } from './rate-limit/reports.ts';

type Granted = readonly (readonly [Limit, string])[];

export default definePlugin(
  { name: 'rate-limit', options: RateLimitOptions, check: rateLimitProblems },
  async (app, options) => {
    const reports = openReports(app);
    const limits = await openLimits(app, options, reports);
    const settings = limits.map((limit) => limit.settings);
    const writeHeaders = headerWriter(options.headers, settings);
    /** What is under way; null: it is over. */
    const held = settings.some((limit) => 'inFlight' in limit) ? new WeakMap<FastifyRequest, Granted | null>() : null;

    /** Asks every limit of `asked`; a request that one of them refuses is charged to none. */
    async function judge(asked: readonly Limit[], request: FastifyRequest, reply: FastifyReply): Promise<void> {
      const granted: [Limit, string][] = [];
      const told: [LimitSettings, Answer][] = [];
      for (const limit of asked) {
        const { settings } = limit;
        const { name, shadow } = settings;
        let answer: Answer;
        try {
          answer = await limit.ask(request);
        } catch (cause) {
          if (!options.shared) throw cause;
          const result = shadow ? 'allow' : options.onStoreFailure;
          reports.storeFailed(settings, result, cause);
          if (result === 'allow') continue;
          undo(granted);
          throw new SelvedgeError('SLV_LIMITS_UNKNOWN', `limit "${name}" was not counted`, { cause });
        }
        if (answer.granted) granted.push([limit, answer.key]);
        else reports.limited(settings, request.selvedge.route?.name ?? '');
        if (shadow) continue;
        if (!answer.granted) {
          writeHeaders(reply, [[settings, answer]]);
          undo(granted);
          throw new SelvedgeError('SLV_RATE_LIMITED', `limit "${name}" is used up`, { retryAfter: retryAfter(answer) });
        }
        told.push([settings, answer]);
      }
      // The client may have left meanwhile.
      if (held?.get(request) === null) for (const [limit, key] of granted) limit.end(key);
      else held?.set(request, [...(held.get(request) ?? []), ...granted]);
      writeHeaders(reply, told);
    }

    const late = limits.filter((limit) => needsClaims(limit.settings.key));
    const early = limits.filter((limit) => !late.includes(limit));
    if (early.length > 0) app.addHook('onRequest', (request, reply) => judge(early, request, reply));
    // In preHandler: whatever verifies claims has run, wherever it stands in the list.
    if (late.length > 0) app.addHook('preHandler', (request, reply) => judge(late, request, reply));
    if (held === null) return;
    app.addHook('onResponse', (request, _reply, done) => {
      for (const [limit, key] of held.get(request) ?? []) limit.end(key);
      held.set(request, null);
      done();
    });
  },
);

function undo(granted: Granted): void {
  for (const [limit, key] of granted) limit.undo(key);
}

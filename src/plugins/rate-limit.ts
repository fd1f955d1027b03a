// Grants each client so many requests in a time, or so many at a time; what comes beyond is answered 429 before it costs anything more.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter, definePlugin, SelvedgeError } from '../plugin.ts';
import { Counters } from './rate-limit/counters.ts';
import { headerWriter, retryAfter } from './rate-limit/headers.ts';
import { needsClaims } from './rate-limit/key.ts';
import { type Answer, inFlightLimit, type Limit, rateLimit, UnderWay, useRateLimit } from './rate-limit/limit.ts';
import { type LimitSettings, limitsOf, RateLimitOptions, rateLimitProblems } from './rate-limit/options.ts';

const LIMITED = 'selvedge_rate_limited_total';
const FORGOTTEN = 'selvedge_rate_limit_keys_forgotten_total';
/** What is only on trial is told of at most so often, with how many there were. */
const TELL_EVERY_MS = 1_000;

/** Null: the request is over. */
type Held = readonly (readonly [Limit, string])[] | null;

export default definePlugin(
  { name: 'rate-limit', options: RateLimitOptions, check: rateLimitProblems },
  async (app, options) => {
    const { role, owner } = app.chain;
    const { limited, forgotten } = app.shared(
      'rate-limit counters',
      () => {
        const registers = [app.metrics];
        const labelNames = ['owner', 'route', 'limit', 'mode'] as const;
        const help = 'Requests beyond a limit: refused, or counted only in mode shadow';
        const helpForgotten = 'Keys that were forgotten before their time, because there were more than maxKeys';
        return {
          limited: new Counter({ name: LIMITED, help, labelNames, registers }),
          forgotten: new Counter({ name: FORGOTTEN, help: helpForgotten, labelNames: ['owner', 'limit'], registers }),
        };
      },
      () => {
        for (const name of [LIMITED, FORGOTTEN]) app.metrics.removeSingleMetric(name);
      },
    );
    await useRateLimit(app);

    /** One set of accounts for all chains of an owner that have this limit, whatever a request costs there. */
    function limitOf(settings: LimitSettings): Limit {
      const { name, key } = settings;
      const identity = (size: unknown): string => `rate-limit ${JSON.stringify([role, owner, name, key, size])}`;
      if ('inFlight' in settings) {
        return inFlightLimit(
          settings,
          app.shared(identity(settings.inFlight), () => new UnderWay()),
        );
      }
      const { maxKeys } = options;
      const forget = (): void => forgotten.inc({ owner, limit: name });
      const make = () => new Counters(settings.quota, maxKeys, () => performance.now(), forget);
      return rateLimit(app, settings, app.shared(identity({ ...settings.quota, maxKeys }), make));
    }

    const limits = limitsOf(options).map(limitOf);
    const writeHeaders = headerWriter(
      options.headers,
      limits.map(({ settings }) => settings),
    );
    const held = limits.some(({ settings }) => 'inFlight' in settings) ? new WeakMap<FastifyRequest, Held>() : null;
    const tell = limits.map(({ settings }) =>
      teller((requests) => {
        app.logger.info(
          { owner, limit: settings.name, requests },
          'rate limit in mode shadow: requests beyond it went through',
        );
      }),
    );

    /** Asks every limit of `asked`; a request that one of them refuses is charged to none. */
    async function judge(asked: readonly Limit[], request: FastifyRequest, reply: FastifyReply): Promise<void> {
      const granted: [Limit, string][] = [];
      const told: [LimitSettings, Answer][] = [];
      for (const limit of asked) {
        const { settings } = limit;
        const answer = await limit.ask(request);
        if (answer.granted) granted.push([limit, answer.key]);
        else
          limited.inc({
            owner,
            route: request.selvedge.route?.name ?? '',
            limit: settings.name,
            mode: settings.shadow ? 'shadow' : 'enforce',
          });
        if (settings.shadow) {
          if (!answer.granted) tell[limits.indexOf(limit)]();
          continue;
        }
        if (!answer.granted) {
          for (const [other, key] of granted) other.undo(key);
          writeHeaders(reply, [[settings, answer]]);
          throw new SelvedgeError('SLV_RATE_LIMITED', `limit "${settings.name}" is used up`, {
            retryAfter: retryAfter(answer),
          });
        }
        told.push([settings, answer]);
      }
      // The client may have left while somebody verified its claims.
      if (held?.get(request) === null) for (const [limit, key] of granted) limit.end(key);
      else held?.set(request, [...(held.get(request) ?? []), ...granted]);
      writeHeaders(reply, told);
    }

    const [early, late] = [false, true].map((late) =>
      limits.filter(({ settings }) => needsClaims(settings.key) === late),
    );
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

/** Calls at most every `TELL_EVERY_MS`, with the number of those since the last time. */
function teller(say: (times: number) => void): () => void {
  let times = 0;
  let next = 0;
  return () => {
    times++;
    const now = performance.now();
    if (now < next) return;
    next = now + TELL_EVERY_MS;
    say(times);
    times = 0;
  };
}

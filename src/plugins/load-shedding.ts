// Answers 503 while the process has more to do than it can, in onRequest: before authentication, limits or a body cost anything.
import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import type { FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import {
  Counter,
  definePlugin,
  Gauge,
  type OptionProblem,
  parseDurationMs,
  parseShare,
  parseSizeBytes,
  SelvedgeError,
  Type,
  UNIT_PATTERNS,
} from '../plugin.ts';
import { type Pressure, SampledPressure, SIGNALS, type Signal } from './pressure.ts';

const SHED = 'selvedge_shed_total';
const GAUGES: Readonly<Record<Signal, { readonly name: string; readonly help: string }>> = {
  event_loop_delay: { name: 'selvedge_event_loop_delay_seconds', help: 'How late the event loop ran on average' },
  event_loop_utilization: { name: 'selvedge_event_loop_utilization', help: 'Share of time the event loop was busy' },
  heap: { name: 'selvedge_heap_used_bytes', help: 'JavaScript heap in use' },
  rss: { name: 'selvedge_rss_bytes', help: 'Resident memory' },
};

/** What is shed first comes first. */
const PRIORITIES = ['low', 'normal', 'high'] as const;
type Priority = (typeof PRIORITIES)[number];

/** under-pressure measures in steps of 10 ms. */
const MIN_DELAY_MS = 10;

const amount = (of: string, fallback: string | null, description: string) =>
  Type.Union(
    [
      Type.String({
        pattern: `${UNIT_PATTERNS.share}|${UNIT_PATTERNS.size}`,
        patternErrorMessage: `must be a share of ${of} such as 90%, or a size such as 1GiB`,
      }),
      Type.Null(),
    ],
    { default: fallback, description },
  );

const Options = Type.Object({
  maxEventLoopDelay: Type.Union(
    [
      Type.String({
        pattern: UNIT_PATTERNS.duration,
        patternErrorMessage: 'must be a duration such as 250ms or 1s',
      }),
      Type.Null(),
    ],
    { default: '1s', description: 'How late the event loop may run on average. `null`: not looked at.' },
  ),
  maxHeapUsed: amount(
    'the heap limit',
    '95%',
    'JavaScript heap in use: a share of what V8 may have, or a size. `null`: not looked at.',
  ),
  maxRss: amount(
    'the memory',
    null,
    "Resident memory: a share of the container's limit (of the machine's memory without one), or a size. `null`: not looked at.",
  ),
  maxEventLoopUtilization: Type.Union(
    [Type.String({ pattern: UNIT_PATTERNS.share, patternErrorMessage: 'must be a share such as 98%' }), Type.Null()],
    { default: null, description: 'Share of time that the event loop may be busy. `null`: not looked at.' },
  ),
  priority: Type.Union(
    PRIORITIES.map((priority) => Type.Literal(priority)),
    { default: 'normal', description: '`low` is shed at 80% of a limit, `normal` at the limit, `high` beyond it.' },
  ),
  priorityHeader: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9-]{1,64}$',
      patternErrorMessage: 'must be a header name of letters, digits and hyphens',
      description:
        'Request header that says `low`, `normal` or `high` instead. Anybody may lower the priority, only callers in `trustedProxies` may raise it. Default: none.',
    }),
  ),
  retryAfter: Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 2s',
    default: '2s',
    description: 'When clients are told to come back, in whole seconds.',
  }),
});
type Options = Static<typeof Options>;

/** By priority: the level above which a request is shed. */
type Limit = Readonly<Record<Priority, number>>;

export default definePlugin(
  { name: 'load-shedding', options: Options, check: problemsOf, unrouted: true },
  async (app, options) => {
    const limits = limitsOf(options);
    if (limits.size === 0) return;
    const { metrics, logger } = app;
    const { owner } = app.chain;
    const pressure = app.shared(
      'load-shedding pressure',
      () => new SampledPressure(),
      (sampled) => sampled.close(),
    );
    await pressure.ready;
    const shed = app.shared(
      'load-shedding metrics',
      () => {
        for (const signal of SIGNALS) {
          new Gauge({
            ...GAUGES[signal],
            registers: [metrics],
            collect() {
              this.set(pressure.levels[signal]);
            },
          });
        }
        const help = 'Requests that were refused because the process is overloaded';
        return new Counter({
          name: SHED,
          help,
          labelNames: ['owner', 'route', 'priority', 'reason'],
          registers: [metrics],
        });
      },
      () => {
        for (const name of [SHED, ...SIGNALS.map((signal) => GAUGES[signal].name)]) metrics.removeSingleMetric(name);
      },
    );
    // One for each set of limits, so that the log says once what many chains do.
    const judge = app.shared(`load-shedding ${JSON.stringify([...limits])}`, () => {
      return new Judge(pressure, limits, (reason) => {
        if (reason === null) logger.info('the process is no longer overloaded');
        else logger.warn({ reason, levels: pressure.levels }, 'the process is overloaded: requests are refused');
      });
    });
    const header = options.priorityHeader?.toLowerCase();
    const retryAfter = Math.ceil((parseDurationMs(options.retryAfter) as number) / 1_000);

    app.addHook('onRequest', (request, _reply, done) => {
      const priority = header === undefined ? options.priority : asked(request, header, options.priority);
      const reason = judge.reasonToShed(priority);
      if (reason === null) {
        done();
        return;
      }
      shed.inc({ owner, route: request.selvedge.route?.name ?? '', priority, reason });
      done(new SelvedgeError('SLV_OVERLOADED', `overloaded (${reason}), priority ${priority}`, { retryAfter }));
    });
  },
);

/** Judges each sample once, when the first request after it comes. */
class Judge {
  readonly #pressure: Pressure;
  readonly #limits: ReadonlyMap<Signal, Limit>;
  readonly #onChange: (reason: Signal | null) => void;
  #judged = 0;
  #reasons: Readonly<Record<Priority, Signal | null>> = { low: null, normal: null, high: null };

  constructor(pressure: Pressure, limits: ReadonlyMap<Signal, Limit>, onChange: (reason: Signal | null) => void) {
    this.#pressure = pressure;
    this.#limits = limits;
    this.#onChange = onChange;
  }

  reasonToShed(priority: Priority): Signal | null {
    if (this.#judged !== this.#pressure.samples) this.#judge();
    return this.#reasons[priority];
  }

  #judge(): void {
    const { samples, levels } = this.#pressure;
    this.#judged = samples;
    const over = (priority: Priority): Signal | null => {
      for (const [signal, limit] of this.#limits) if (levels[signal] > limit[priority]) return signal;
      return null;
    };
    const before = this.#reasons.low;
    this.#reasons = { low: over('low'), normal: over('normal'), high: over('high') };
    const now = this.#reasons.low;
    if ((before === null) !== (now === null)) this.#onChange(now);
  }
}

/** A stranger who called himself important would make everybody else less so. */
function asked({ headers, selvedge }: FastifyRequest, header: string, own: Priority): Priority {
  const given = PRIORITIES.indexOf(String(headers[header]).toLowerCase() as Priority);
  if (given < 0) return own;
  return selvedge.trusted || given < PRIORITIES.indexOf(own) ? PRIORITIES[given] : own;
}

function limitsOf({ maxEventLoopDelay, maxEventLoopUtilization, maxHeapUsed, maxRss }: Options): Map<Signal, Limit> {
  const limits = new Map<Signal, Limit>();
  if (maxEventLoopDelay !== null)
    limits.set('event_loop_delay', around((parseDurationMs(maxEventLoopDelay) as number) / 1_000));
  if (maxHeapUsed !== null) limits.set('heap', bytes(maxHeapUsed, getHeapStatistics().heap_size_limit));
  if (maxRss !== null) limits.set('rss', bytes(maxRss, memory()));
  if (maxEventLoopUtilization !== null)
    limits.set('event_loop_utilization', around(parseShare(maxEventLoopUtilization) as number, 1));
  return limits;
}

function bytes(written: string, whole: number): Limit {
  const share = parseShare(written);
  return share === null ? around(parseSizeBytes(written) as number) : around(share * whole, whole);
}

/** `high` has a quarter more than the limit; of a share, at most half of what is left to the whole. */
function around(limit: number, whole = Number.POSITIVE_INFINITY): Limit {
  return { low: limit * 0.8, normal: limit, high: Math.min(limit * 1.25, (limit + whole) / 2) };
}

/** Bytes: the limit of the container, which Node gives as 0 or as more than there is where there is none. */
function memory(): number {
  const total = totalmem();
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, total) : total;
}

function problemsOf(options: Options): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const { maxEventLoopDelay, maxEventLoopUtilization, retryAfter } = options;
  if (maxEventLoopDelay !== null && !((parseDurationMs(maxEventLoopDelay) ?? 0) >= MIN_DELAY_MS))
    problems.push({ path: 'maxEventLoopDelay', message: `must be at least ${MIN_DELAY_MS}ms; null: not looked at` });
  for (const [path, written] of Object.entries({
    maxHeapUsed: options.maxHeapUsed,
    maxRss: options.maxRss,
    maxEventLoopUtilization,
  })) {
    if (written === null) continue;
    const limit = written.endsWith('%') ? parseShare(written) : parseSizeBytes(written);
    if (limit === null || limit === 0 || (written.endsWith('%') && limit === 1))
      problems.push({ path, message: 'must be more than nothing and less than 100%; null: not looked at' });
  }
  if ((parseDurationMs(retryAfter) ?? 0) < 1_000) problems.push({ path: 'retryAfter', message: 'must be at least 1s' });
  return problems;
}

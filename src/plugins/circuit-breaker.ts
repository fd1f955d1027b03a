// Stands outside the retries: asks a service nothing for a while when too much of what it was asked failed, and never too much at once.
import {
  Counter,
  calledService,
  definePlugin,
  Gauge,
  parseDurationMs,
  parseShare,
  SelvedgeError,
  Type,
  UNIT_PATTERNS,
} from '../plugin.ts';
import { Breaker, type BreakerSettings, Pass, type Refusal } from './breaker.ts';
import { Judging } from './breaker-handler.ts';

const OPEN = 'selvedge_circuit_open';
const REJECTED = 'selvedge_circuit_rejected_total';

const duration = (fallback: string, description: string) =>
  Type.String({
    pattern: UNIT_PATTERNS.duration,
    patternErrorMessage: 'must be a duration such as 250ms, 10s or 5m',
    default: fallback,
    description,
  });

export default definePlugin(
  {
    name: 'circuit-breaker',
    options: Type.Object({
      requests: Type.Optional(
        Type.Integer({
          minimum: 1,
          description: 'Requests for one service that may be under way. Default: any number.',
        }),
      ),
      failureRate: Type.Optional(
        Type.String({
          pattern: UNIT_PATTERNS.share,
          patternErrorMessage: 'must be a share such as 50%',
          description: 'Share of failures in the window that opens the circuit. Default: nothing does.',
        }),
      ),
      minRequests: Type.Integer({
        minimum: 1,
        maximum: 1_000_000,
        default: 20,
        description: 'Outcomes in the window that are enough to judge by.',
      }),
      window: duration('10s', 'How far back outcomes count.'),
      openFor: duration('5s', 'How long the service is asked nothing; twice as long after each probe that fails.'),
      maxOpen: duration('60s', 'Longest time it is asked nothing.'),
      probes: Type.Integer({
        minimum: 1,
        maximum: 1_000,
        default: 1,
        description: 'Requests at a time that then try whether it is back: one that succeeds closes the circuit.',
      }),
    }),
    check: ({ requests, failureRate, ...times }) => [
      ...(requests === undefined && failureRate === undefined
        ? [{ path: '', message: 'does nothing: it needs "failureRate", "requests" or both' }]
        : []),
      ...(failureRate !== undefined && !((parseShare(failureRate) ?? 0) > 0)
        ? [{ path: 'failureRate', message: 'must be more than 0% and at most 100%' }]
        : []),
      ...(['window', 'openFor', 'maxOpen'] as const)
        .filter((path) => !parseDurationMs(times[path]))
        .map((path) => ({ path, message: 'must be whole milliseconds and longer than 0' })),
      ...((parseDurationMs(times.openFor) ?? 0) > (parseDurationMs(times.maxOpen) ?? 0)
        ? [{ path: 'openFor', message: `is longer than "maxOpen" (${times.maxOpen})` }]
        : []),
    ],
  },
  async (app, options) => {
    const settings: BreakerSettings = {
      requests: options.requests ?? Number.POSITIVE_INFINITY,
      failureRate: options.failureRate === undefined ? null : (parseShare(options.failureRate) as number),
      minRequests: options.minRequests,
      windowMs: parseDurationMs(options.window) as number,
      openForMs: parseDurationMs(options.openFor) as number,
      maxOpenMs: parseDurationMs(options.maxOpen) as number,
      probes: options.probes,
    };
    const { logger, metrics } = app;
    const registers = [metrics];
    const { open, rejected } = app.shared(
      'circuit-breaker metrics',
      () => ({
        open: new Gauge({
          name: OPEN,
          help: 'Circuits to the service that are open',
          labelNames: ['service'],
          registers,
        }),
        rejected: new Counter({
          name: REJECTED,
          help: 'Requests that circuit breakers refused',
          labelNames: ['service', 'reason'],
          registers,
        }),
      }),
      () => {
        for (const name of [OPEN, REJECTED]) metrics.removeSingleMetric(name);
      },
    );
    // One for each service that a config has named: bounded by those. Infinity would be null in the key, and so is no limit.
    const breakers = app.shared(
      `circuit-breaker ${JSON.stringify(settings)}`,
      () => new Map<string, Breaker>(),
      (held) => {
        for (const [service, breaker] of held) if (breaker.open) open.dec({ service });
      },
    );

    function breakerOf(service: string): Breaker {
      let breaker = breakers.get(service);
      if (breaker !== undefined) return breaker;
      let wasOpen = false;
      open.inc({ service }, 0);
      breaker = new Breaker(
        settings,
        () => performance.now(),
        (isOpen, forMs) => {
          if (isOpen !== wasOpen) open.inc({ service }, isOpen ? 1 : -1);
          wasOpen = isOpen;
          if (isOpen) logger.warn({ service, forMs }, 'circuit opened: too many requests to the service failed');
          else logger.info({ service }, 'circuit closed: the service answers again');
        },
      );
      breakers.set(service, breaker);
      return breaker;
    }

    app.upstream.intercept('perRequest', (dispatch) => (dispatched, handler) => {
      const service = calledService(dispatched);
      const pass = breakerOf(service).enter();
      if (pass instanceof Pass) {
        try {
          return dispatch(dispatched, new Judging(handler, pass));
        } catch (error) {
          pass.leave();
          throw error;
        }
      }
      rejected.inc({ service, reason: pass.reason });
      handler.onResponseError?.(null, refusal(service, pass));
      return true;
    });
  },
);

function refusal(service: string, { reason, retryAfterMs }: Refusal): SelvedgeError {
  if (retryAfterMs === null)
    return new SelvedgeError('SLV_REQUEST_LIMIT', `service "${service}": circuit breaker: ${reason}`);
  const retryAfter = Math.max(1, Math.ceil(retryAfterMs / 1_000));
  return new SelvedgeError('SLV_CIRCUIT_OPEN', `service "${service}": the circuit is open`, { retryAfter });
}

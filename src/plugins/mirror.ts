// Sends copies of requests to other services, each once the request itself is read whole; nobody waits for the answers.
import { Readable } from 'node:stream';
import { positionOf } from '../http/position.ts';
import { ReplayBody, ReplayReader } from '../http/replay-body.ts';
import {
  Counter,
  calledFor,
  type DispatchHandler,
  type DispatchOptions,
  definePlugin,
  parseShare,
  parseSizeBytes,
} from '../plugin.ts';
import { MirrorOptions, mirrorProblems } from '../policies/mirror.ts';
import { AnswerDropped, type MirrorResult, MirrorWatch } from './mirror-handlers.ts';

const MIRRORED = 'selvedge_mirrored_total';
/** On every copy, with the name of the route; a request that has it is not copied again. */
const MARK = 'x-selvedge-mirror';
const TIMEOUT_MS = 10_000;

interface Target {
  readonly service: string;
  readonly subset: string | null;
  readonly share: number;
  readonly bufferBytes: number;
  readonly maxInFlight: number;
  /** Shared by the chains with the same target. */
  readonly load: { inFlight: number };
}

export default definePlugin(
  {
    name: 'mirror',
    options: MirrorOptions,
    check: ({ to }) => mirrorProblems(to).map(({ path, message }) => ({ path: `to${path}`, message })),
    references: ({ to }) => to.map(({ service, subset = null }, index) => ({ service, subset, path: `to[${index}]` })),
  },
  async (app, { to }) => {
    const mirrored = app.shared(
      'mirror counter',
      () => {
        const help = 'Copies of requests, by what became of them';
        return new Counter({ name: MIRRORED, help, labelNames: ['service', 'result'], registers: [app.metrics] });
      },
      () => app.metrics.removeSingleMetric(MIRRORED),
    );
    const targets = to.map((written): Target => {
      const { service, subset = null, share = '100%', bufferBytes = '64KiB', maxInFlight = 100 } = written;
      return {
        service,
        subset,
        share: parseShare(share) as number,
        bufferBytes: parseSizeBytes(bufferBytes) as number,
        maxInFlight,
        load: app.shared(`mirror ${JSON.stringify(written)}`, () => ({ inFlight: 0 })),
      };
    });

    app.upstream.intercept('perRequest', (dispatch) => (options, handler) => {
      if (options.upgrade !== null || options.method === 'CONNECT') return dispatch(options, handler);
      if (options.headers.includes(MARK)) return dispatch(options, handler);
      const record = calledFor(options);
      // By id, so that the draw can be repeated.
      const drawn = targets.filter(({ service, share }) => positionOf(`mirror/${service}/${record?.id}`) < share);
      const chosen = drawn.filter((target) => admit(target, options));
      if (chosen.length === 0) return dispatch(options, handler);
      const copy = { ...options, headers: [...options.headers, MARK, record?.route?.name ?? ''] };
      const { body } = options;
      if (!(body instanceof Readable)) {
        const started = dispatch(options, handler);
        for (const target of chosen) send(target, copy, body);
        return started;
      }
      return dispatchKept(dispatch, options, body, handler, chosen, copy);
    });

    /** Takes a place for a copy, which bounds what is kept for copies too. */
    function admit(target: Target, { body, contentLength }: DispatchOptions): boolean {
      const length = contentLength ?? (Buffer.isBuffer(body) ? body.length : 0);
      if (length > target.bufferBytes) return refuse(target, 'too_large');
      if (target.load.inFlight >= target.maxInFlight) return refuse(target, 'too_many');
      target.load.inFlight += 1;
      return true;
    }

    function refuse({ service }: Target, result: MirrorResult): false {
      mirrored.inc({ service, result });
      return false;
    }

    function giveUp(target: Target, result: MirrorResult): void {
      target.load.inFlight -= 1;
      refuse(target, result);
    }

    function dispatchKept(
      dispatch: (options: DispatchOptions, handler: DispatchHandler) => boolean,
      options: DispatchOptions,
      body: Readable,
      handler: DispatchHandler,
      chosen: readonly Target[],
      copy: DispatchOptions,
    ): boolean {
      const limit = Math.max(...chosen.map(({ bufferBytes }) => bufferBytes));
      const shared = body instanceof ReplayReader;
      const kept = shared ? body.origin : new ReplayBody(body, limit);
      if (shared) kept.keep(limit);
      const reader = shared ? body : kept.open();
      const watch = new MirrorWatch(handler, reader, !shared);
      kept.onWhole((whole) => {
        watch.settled = true;
        for (const target of chosen) {
          if (whole !== null && whole.length <= target.bufferBytes) send(target, copy, whole);
          else giveUp(target, whole === null && (kept.failure !== null || watch.over) ? 'failed' : 'too_large');
        }
        watch.release();
      });
      try {
        return dispatch(shared ? options : { ...options, body: reader }, watch);
      } catch (error) {
        watch.finish();
        throw error;
      }
    }

    function send(target: Target, { method, path, headers }: DispatchOptions, body: Buffer | null): void {
      const { service, subset } = target;
      mirrored.inc({ service, result: 'sent' });
      const answer = new AnswerDropped(TIMEOUT_MS, (answered) => giveUp(target, answered ? 'answered' : 'failed'));
      try {
        const contentLength = body === null ? null : body.length;
        app.upstream.send(
          service,
          subset,
          { method, path, headers, body, contentLength, timeoutMs: TIMEOUT_MS },
          answer,
        );
      } catch (error) {
        answer.onResponseError(null, error as Error);
      }
    }
  },
);

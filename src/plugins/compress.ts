// Compresses answers on their way to the client: the last to see them, after every other plugin.
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest, onSendHookHandler } from 'fastify';
import {
  Counter,
  definePlugin,
  parseSizeBytes,
  type ResponsePayload,
  readResponseBody,
  transformResponseBody,
} from '../plugin.ts';
import { addVary, ContentTypes, declaredLength, describe, describeUnchanged, suitability } from './compress/answer.ts';
import { AVAILABLE, codecs } from './compress/encoders.ts';
import { flushOften } from './compress/flushing.ts';
import { type Encoding, negotiate } from './compress/negotiation.ts';
import { CompressOptions, compressProblems } from './compress/options.ts';

const COMPRESSED = 'selvedge_compressed_total';
/** So long a service may take over the first `minBytes` of an answer whose length is not known. */
const PROBE_MS = 20;

export default definePlugin(
  { name: 'compress', options: CompressOptions, check: compressProblems },
  async (app, options) => {
    const { owner } = app.chain;
    const minBytes = parseSizeBytes(options.minBytes) as number;
    const offered = options.encodings.filter((encoding) => AVAILABLE.includes(encoding));
    const types = new ContentTypes(options.types);
    const codec = codecs(options.levels);
    const except = options.except.map((path) => ({ path, below: path.endsWith('/') ? path : `${path}/` }));
    const compressed = app.shared(
      'compress counter',
      () =>
        new Counter({
          name: COMPRESSED,
          help: 'Answers that a client would take compressed, by what became of them',
          labelNames: ['owner', 'result'],
          registers: [app.metrics],
        }),
      () => app.metrics.removeSingleMetric(COMPRESSED),
    );
    let active = 0;

    if (options.upstream === 'identity')
      app.addHook('preHandler', (request, _reply, done) => {
        const asked = request.headers['accept-encoding'];
        ASKED.set(request, asked === undefined ? undefined : String(asked));
        request.headers['accept-encoding'] = 'identity';
        done();
      });

    // Hooks of a route come after those of all plugins, wherever this one stands in the list.
    app.addHook('onRoute', (route) => {
      const others = route.onSend === undefined ? [] : [route.onSend].flat();
      route.onSend = [...others, onSend as onSendHookHandler];
    });

    function onSend(
      request: FastifyRequest,
      reply: FastifyReply,
      payload: ResponsePayload,
      done: (error: Error | null, payload?: unknown) => void,
    ): void {
      const encoding = choose(request, reply);
      if (encoding === null) done(null, payload);
      else if (request.method === 'HEAD') {
        // As GET would be answered, as far as that is known.
        if ((declaredLength(reply) ?? 0) >= Math.max(minBytes, 1)) describe(reply, encoding);
        done(null, payload);
      } else if (active >= options.maxActive) {
        compressed.inc({ owner, result: 'busy' });
        done(null, payload);
      } else {
        active += 1;
        compress(reply, payload, encoding).then(
          (body) => done(null, body),
          (error) => {
            active -= 1;
            done(error);
          },
        );
      }
    }

    /** Null: it goes as it is. */
    function choose(request: FastifyRequest, reply: FastifyReply): Encoding | null {
      if (reply.statusCode === 304) {
        describeUnchanged(request, reply, types);
        return null;
      }
      const suits = suitability(request, reply, types);
      if (suits === 'never') return null;
      const { path } = request.selvedge;
      if (except.some((one) => path === one.path || path.startsWith(one.below))) return null;
      addVary(reply);
      if (suits === 'varies') return null;
      const asked = options.upstream === 'identity' ? ASKED.get(request) : request.headers['accept-encoding'];
      const length = declaredLength(reply);
      return length !== null && length < minBytes ? null : negotiate(asked as string | undefined, offered);
    }

    /** Takes its place in `active` back, at the latest when the stream that it returns is closed. */
    async function compress(reply: FastifyReply, payload: ResponsePayload, encoding: Encoding): Promise<unknown> {
      let body = payload;
      const probed = !isWhole(payload) && declaredLength(reply) === null && !reply.hasHeader('trailer');
      if (probed) body = await readResponseBody(reply, payload, Math.max(minBytes - 1, 0), PROBE_MS);
      if (body === null || body === undefined || (isWhole(body) && body.length < Math.max(minBytes, 1))) {
        active -= 1;
        // As a stream, because trailers may have come behind it.
        return probed ? Readable.from([body]) : body;
      }
      describe(reply, encoding);
      compressed.inc({ owner, result: encoding });
      if (isWhole(body)) {
        const whole = await codec[encoding].whole(Buffer.from(body));
        active -= 1;
        return whole;
      }
      const encoder = codec[encoding].open();
      encoder.once('close', () => {
        active -= 1;
      });
      flushOften(encoder, codec[encoding].flushKind);
      return transformResponseBody(body, encoder);
    }
  },
);

function isWhole(body: ResponsePayload): body is Buffer | string {
  return typeof body === 'string' || Buffer.isBuffer(body);
}

/** What clients accept, where the service is asked for something else. */
const ASKED = new WeakMap<FastifyRequest, string | undefined>();

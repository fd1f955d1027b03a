// Makes every request part of one distributed trace: takes up or begins its context, and records it and its tries when it is sampled.
import { createHash, randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { collectorHeaderProblem, TRACES_URL_EXPECTED, tracesUrl } from '../http/otlp.ts';
import { Counter, definePlugin, parseShare, Type, UNIT_PATTERNS } from '../plugin.ts';
import { collector } from './tracing/collector.ts';
import { SpanExporter, sourceOf } from './tracing/exporter.ts';
import { Propagation } from './tracing/propagation.ts';
import { RequestTrace } from './tracing/request-trace.ts';

const SPANS = 'selvedge_trace_spans_total';
const INSTANCE = randomUUID();

export default definePlugin(
  {
    name: 'tracing',
    options: Type.Object({
      otlp: Type.String({
        description: 'Base URL of an OTLP/HTTP collector; spans go to its `/v1/traces` as JSON.',
      }),
      sample: Type.Union(
        [
          Type.Number({ minimum: 0, maximum: 1 }),
          Type.String({ pattern: UNIT_PATTERNS.share, patternErrorMessage: 'must be a share such as 5%' }),
        ],
        {
          default: 0.05,
          description:
            'Share of requests that are recorded, of those about which no trusted caller has decided: 5% or 0.05.',
        },
      ),
      propagate: Type.Array(Type.Union([Type.Literal('w3c'), Type.Literal('b3'), Type.Literal('b3multi')]), {
        default: ['w3c'],
        minItems: 1,
        description:
          'Headers that carry the context, asked in this order and all of them written: w3c (`traceparent`), b3 (one header), b3multi (`x-b3-*`). Both b3 read both forms.',
      }),
      headers: Type.Record(Type.String(), Type.String(), {
        default: {},
        writeOnly: true,
        description: 'Headers for the collector, such as its token.',
      }),
      trustParent: Type.Optional(
        Type.Boolean({
          description:
            "Whether the caller's decision to sample counts. Default: true at internal hops, false at the edge, where a stranger would decide how much is recorded; the trace goes on in either case.",
        }),
      ),
    }),
    check: ({ otlp, sample, headers }) => [
      ...(tracesUrl(otlp) === null ? [{ path: 'otlp', message: `must be ${TRACES_URL_EXPECTED}` }] : []),
      ...(typeof sample === 'string' && parseShare(sample) === null
        ? [{ path: 'sample', message: `"${sample}" is more than 100%` }]
        : []),
      ...Object.entries(headers).flatMap(([name, value]) => {
        const message = collectorHeaderProblem(name, value);
        return message === null ? [] : [{ path: `headers.${name}`, message }];
      }),
    ],
  },
  async (app, { otlp, sample, propagate, headers, trustParent }) => {
    const { role, owner, version } = app.chain;
    const share = typeof sample === 'string' ? (parseShare(sample) as number) : sample;
    const sampling = { share, trustParent: trustParent ?? role !== 'gateway', random: Math.random };
    const propagation = new Propagation(propagate);
    const url = tracesUrl(otlp) as URL;
    // The key may show up in a log; the headers are secret.
    const digest = createHash('sha256')
      .update(JSON.stringify([url, headers]))
      .digest('base64url');
    const exporter = app.shared(
      `tracing ${digest}`,
      () => openExporter(app, url, headers),
      (opened) => opened.close(),
    );
    const source = sourceOf(role === 'gateway' ? `gateway/${owner}` : `service/${owner}`, version, INSTANCE);
    const settings = { propagation, sink: (span: string): void => exporter.add(source, span) };

    // Null: not sampled. Spans of a request that names this plugin twice are those of the first.
    const trace = Symbol('trace');
    type Traced = FastifyRequest & { [trace]: RequestTrace | null };
    app.decorateRequest(trace, null);

    app.addHook('onRequest', (request, _reply, done) => {
      const begun = propagation.begin(request.headers, sampling);
      request.selvedge.traceId = begun.traceId;
      if (begun.sampled) (request as Traced)[trace] = new RequestTrace(begun, settings);
      done();
    });
    app.upstream.observe((request, _attempt, outgoing) => {
      const sampled = (request as Traced)[trace];
      return sampled === null ? null : sampled.attempt(request, outgoing);
    });
    app.addHook('onResponse', (request, reply, done) => {
      (request as Traced)[trace]?.end(request, reply);
      done();
    });
  },
);

function openExporter({ metrics, logger }: FastifyInstance, url: URL, headers: Readonly<Record<string, string>>) {
  const spans =
    (metrics.getSingleMetric(SPANS) as Counter | undefined) ??
    new Counter({
      name: SPANS,
      help: 'Spans of sampled requests: taken by the collector, dropped because too many waited, or given up',
      labelNames: ['result'],
      registers: [metrics],
    });
  for (const result of ['exported', 'dropped', 'failed']) spans.inc({ result }, 0);
  const { origin } = url;
  return new SpanExporter(collector(url, headers), {
    counted: (result, count) => spans.inc({ result }, count),
    onTrouble: (err) => logger.warn({ err, collector: origin }, 'traces cannot be exported'),
    onRecovery: () => logger.info({ collector: origin }, 'traces are exported again'),
  });
}

// Writes one JSON line for each request once it is over, whatever became of it.
import { resolve } from 'node:path';
import { positionOf } from '../http/position.ts';
import { openAccessLog, STDOUT } from '../lines/access-log.ts';
import { definePlugin, parseShare, Type, UNIT_PATTERNS } from '../plugin.ts';
import { accessLine, LINE_FIELDS, writtenFields } from './access-line.ts';
import { finalStatus } from './final-status.ts';

export default definePlugin(
  {
    name: 'access-log',
    options: Type.Object({
      sample: Type.Union(
        [
          Type.Number({ minimum: 0, maximum: 1 }),
          Type.String({ pattern: UNIT_PATTERNS.share, patternErrorMessage: 'must be a share such as 20%' }),
        ],
        {
          default: 1,
          description:
            'Share of ordinary requests that are logged: 20% or 0.2. By request id, so that edge and hops choose the same requests.',
        },
      ),
      always: Type.Object(
        {
          errors: Type.Boolean({
            default: true,
            description: 'Log every status of 500 or more and every request that broke off.',
          }),
          slowMs: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
            default: null,
            description: 'Log every request that took at least this long; null: none for that.',
          }),
        },
        { default: {}, description: 'Requests that are logged whatever the sample says.' },
      ),
      headers: Type.Array(Type.String(), { default: [], description: 'Request headers to write.' }),
      redact: Type.Array(Type.String(), {
        default: ['authorization', 'cookie', 'proxy-authorization', 'x-api-key'],
        description: 'Headers whose values are never written; `[redacted]` stands in their place.',
      }),
      query: Type.Union([Type.Literal('full'), Type.Literal('names'), Type.Literal('none')], {
        default: 'names',
        description: 'What to write of the query string: all of it, the parameter names, nothing.',
      }),
      fields: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Fixed fields added to every line.',
      }),
      destination: Type.String({
        default: 'stdout',
        minLength: 1,
        description: '`stdout`, or a file that is appended to; when it is rotated away, it is opened anew within 5 s.',
      }),
    }),
    check: ({ fields, sample }) => [
      ...LINE_FIELDS.filter((name) => Object.hasOwn(fields, name)).map((name) => ({
        path: `fields.${name}`,
        message: `"${name}" is a field of every line already`,
      })),
      ...(typeof sample === 'string' && parseShare(sample) === null
        ? [{ path: 'sample', message: `"${sample}" is more than 100%` }]
        : []),
    ],
  },
  async (app, options) => {
    const sample = typeof options.sample === 'string' ? (parseShare(options.sample) as number) : options.sample;
    const { errors, slowMs } = options.always;
    const slow = slowMs ?? Number.POSITIVE_INFINITY;
    const redact = new Set(options.redact.map((name) => name.toLowerCase()));
    const headers = options.headers.map((name) => name.toLowerCase());
    const settings = { query: options.query, fields: writtenFields(options.fields), headers, redact };

    const destination = options.destination === 'stdout' ? STDOUT : resolve(options.destination);
    const writer = app.shared(
      `access-log ${destination}`,
      () => openAccessLog(destination, app.metrics, app.logger),
      (opened) => opened.close(),
    );

    app.addHook('onResponse', (request, reply, done) => {
      const { startedAt, reason, id } = request.selvedge;
      const status = finalStatus(request, reply);
      const durationMs = performance.now() - startedAt;
      // A refusal (4xx) is no error here: a flood of them must not undo the sampling.
      const failed = status >= 500 || status === 499 || (reason !== null && status < 400);
      if ((errors && failed) || durationMs >= slow || sample === 1 || positionOf(id) < sample) {
        writer.write(accessLine(request, status, durationMs, settings));
      }
      done();
    });
  },
);

// Holds requests, and answers if asked to, against an OpenAPI document: what it does not describe does not pass.
import type { FastifyRequest } from 'fastify';
import {
  calledFor,
  type DispatchOptions,
  definePlugin,
  type Exchange,
  type OptionProblem,
  parseSizeBytes,
  Type,
  UNIT_PATTERNS,
} from '../plugin.ts';
import { without } from './body-headers.ts';
import { readPlainJson } from './json-body.ts';
import { checkHead, findOperation, type Refused, refusal } from './openapi/check-request.ts';
import { checkingReader } from './openapi/check-response.ts';
import { loadApi, type Operation } from './openapi/operations.ts';
import { openReports } from './openapi/reports.ts';
import type { Validate } from './openapi/schemas.ts';
import { dispatchWhole } from './whole-body.ts';
import { WholeResponse } from './whole-response.ts';

const choice = <const T extends readonly string[]>(values: T, fallback: T[number], description: string) =>
  Type.Union(
    values.map((value) => Type.Literal(value as T[number])),
    { default: fallback, description },
  );

const Options = Type.Object({
  document: Type.String({
    minLength: 1,
    description: 'The OpenAPI 3.0 or 3.1 document, YAML or JSON: a file beside the config, watched with it.',
  }),
  basePath: Type.Optional(
    Type.String({
      pattern: '^/',
      patternErrorMessage: 'must begin with a slash',
      description: 'What stands before its paths. Default: the paths of its `servers`.',
    }),
  ),
  unknownPaths: choice(['deny', 'allow'], 'deny', '`allow`: what the document does not name passes unseen.'),
  unknownQuery: choice(['allow', 'deny'], 'allow', '`deny`: refuse query parameters that the document does not name.'),
  mode: choice(['enforce', 'shadow'], 'enforce', '`shadow`: count and log what would be refused, and refuse nothing.'),
  responses: choice(
    ['off', 'log', 'enforce'],
    'off',
    'Whether answers are looked at too: `log` counts and logs, `enforce` answers 502 instead.',
  ),
  maxBody: Type.Union(
    [
      Type.Integer({ minimum: 1 }),
      Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 1MiB' }),
    ],
    {
      default: '1MiB',
      description: 'Largest JSON body that is looked at, in bytes or as a size. A larger request is answered 413.',
    },
  ),
});

const MAX_BODY = 64 * 1_048_576;

interface Checked {
  readonly request: FastifyRequest;
  readonly operation: Operation;
  /** For the body; null: not looked at. */
  readonly validate: Validate | null;
}

export default definePlugin({ name: 'openapi', options: Options, check: problemsOf }, async (app, options) => {
  const { document, basePath, unknownPaths, unknownQuery, responses } = options;
  const shadow = options.mode === 'shadow';
  const maxBytes = parseSizeBytes(options.maxBody) as number;
  const api = loadApi({ document, ...(basePath === undefined ? {} : { basePath }), responses: responses !== 'off' });
  const reports = openReports(app);
  const checked = new WeakMap<Exchange, Checked>();
  const query = { denied: unknownQuery === 'deny', except: api.keys };

  app.addHook('preHandler', (request, _reply, done) => {
    const asked = findOperation(api, request);
    if ('code' in asked) {
      if (asked.code === 'SLV_OPERATION_NOT_FOUND' && unknownPaths === 'allow') done();
      else end(request, null, asked, done);
      return;
    }
    const { operation } = asked;
    const head = checkHead(asked, request, query);
    if (head !== null && typeof head === 'object') {
      checked.set(request.selvedge, { request, operation, validate: null });
      end(request, operation, head, done);
      return;
    }
    checked.set(request.selvedge, { request, operation, validate: head });
    if (head === null) reports.valid('request');
    done();
  });

  function end(
    request: FastifyRequest,
    operation: Operation | null,
    refused: Refused,
    done: (error?: Error) => void,
  ): void {
    const error = refuse(request, operation, refused);
    if (error === null) done();
    else done(error);
  }

  /** Null: in mode shadow it passes all the same. */
  function refuse({ selvedge }: FastifyRequest, operation: Operation | null, refused: Refused): Error | null {
    reports.found('request', options.mode as 'enforce' | 'shadow', refused, selvedge, operation?.name ?? null);
    if (shadow) return null;
    selvedge.because = `openapi_${refused.result}`;
    return refusal(refused);
  }

  app.upstream.intercept('perRequest', (dispatch) => (given, handler) => {
    const found = checkedOf(given);
    const { body, contentLength } = given;
    if (found?.validate == null || body === null) return dispatch(given, handler);
    const { request, operation, validate } = found;
    // A body that is read here whole could not pass any more if it turned out to be too large.
    if (shadow && (contentLength === null || contentLength > maxBytes)) {
      refuse(request, operation, { result: 'not_read', mistakes: [], code: 'SLV_BODY_TOO_LARGE' });
      return dispatch(given, handler);
    }
    return dispatchWhole(dispatch, given, handler, maxBytes, (whole) => {
      const read = readPlainJson(whole);
      const mistake = read === null ? { pointer: '', message: 'is no JSON' } : validate(read.json);
      if (mistake === null) {
        reports.valid('request');
        return whole;
      }
      const refused = { result: 'body', mistakes: [{ in: 'body', ...mistake }], code: 'SLV_REQUEST_INVALID' } as const;
      const error = refuse(request, operation, refused);
      if (error !== null) throw error;
      return whole;
    });
  });

  if (responses !== 'off')
    app.upstream.intercept('perRequest', (dispatch) => (given, handler) => {
      const found = checkedOf(given);
      if (found === null) return dispatch(given, handler);
      // In the clear and whole: nothing else can be looked at.
      const headers = [
        ...without(given.headers, ['accept-encoding', 'range', 'if-range']),
        'accept-encoding',
        'identity',
      ];
      const reader = checkingReader({ ...found, reports, maxBytes, enforced: responses === 'enforce' });
      return dispatch({ ...given, headers }, new WholeResponse(handler, reader));
    });

  function checkedOf(given: DispatchOptions): Checked | null {
    const exchange = calledFor(given);
    if (exchange === null || given.upgrade !== null || given.method === 'CONNECT') return null;
    return checked.get(exchange) ?? null;
  }
});

function problemsOf(options: {
  document: string;
  basePath?: string;
  responses: string;
  maxBody: string | number;
}): OptionProblem[] {
  const { document, basePath, responses } = options;
  const maxBytes = parseSizeBytes(options.maxBody);
  if (maxBytes === null || maxBytes === 0 || maxBytes > MAX_BODY)
    return [{ path: 'maxBody', message: `must be whole bytes, from 1 to ${MAX_BODY}` }];
  try {
    loadApi({ document, ...(basePath === undefined ? {} : { basePath }), responses: responses !== 'off' });
    return [];
  } catch (error) {
    return [{ path: 'document', message: `"${document}": ${(error as Error).message}` }];
  }
}

// Options of `transform`, and what of them cannot be meant.
import type { Static } from 'typebox';
import { headerChangeProblems } from '../../http/header-changes.ts';
import { type OptionProblem, parseSizeBytes, Type, UNIT_PATTERNS } from '../../plugin.ts';
import { pathProblem } from './changes.ts';
import { templateProblem, templatesIn } from './template.ts';

const side = (whose: string) =>
  Type.Optional(
    Type.Object(
      {
        headers: Type.Optional(
          Type.Object(
            {
              set: Type.Optional(
                Type.Record(Type.String(), Type.String(), {
                  description:
                    'Headers by name: templates. Where the only fact in one is missing, the header is removed.',
                }),
              ),
              remove: Type.Optional(
                Type.Array(Type.String(), { description: 'Headers to take out; this happens first.' }),
              ),
            },
            { description: `Headers of the ${whose}.` },
          ),
        ),
        body: Type.Optional(
          Type.Object(
            {
              remove: Type.Optional(
                Type.Array(Type.String(), {
                  maxItems: 1_000,
                  description: 'Fields to take out, by path; this happens first.',
                }),
              ),
              rename: Type.Optional(
                Type.Record(Type.String(), Type.String({ minLength: 1 }), {
                  description: 'Then: the field at a path gets another name, in the same object.',
                }),
              ),
              set: Type.Optional(
                Type.Record(Type.String(), Type.Unknown(), {
                  description: 'Then: fields by path. Any JSON; strings in it are templates.',
                }),
              ),
              wrap: Type.Optional(
                Type.String({
                  minLength: 1,
                  description: 'Last: the whole becomes the field of this name of an object.',
                }),
              ),
            },
            { description: `The body of the ${whose}, where it is JSON.` },
          ),
        ),
      },
      { description: `What becomes of the ${whose}.` },
    ),
  );

export const transformOptions = Type.Object({
  request: side('request'),
  response: side('answer'),
  maxBody: Type.Union(
    [
      Type.Integer({ minimum: 1 }),
      Type.String({ pattern: UNIT_PATTERNS.size, patternErrorMessage: 'must be a size such as 1MiB' }),
    ],
    {
      default: '1MiB',
      description: 'Largest body that is changed, in bytes or as a size like 1MiB. A larger request is answered 413.',
    },
  ),
  unreadable: Type.Union([Type.Literal('fail'), Type.Literal('pass')], {
    default: 'fail',
    description:
      'What becomes of an answer that says it is JSON and cannot be changed: larger than `maxBody`, compressed, a part of the whole, or no JSON after all. `fail`: 502; `pass`: it goes through as it is.',
  }),
});
export type TransformOptions = Static<typeof transformOptions>;
export type Side = NonNullable<TransformOptions['request']>;

/** What Selvedge says itself, or what would no longer be true of the body. */
const OWN = /^(?:x-selvedge-.*|x-forwarded-.*|forwarded|via|expect|content-encoding|content-range)$/i;

/** At most; beyond it a gateway that holds it all is the wrong place. */
const MAX_BODY = 64 * 1_048_576;

export function transformProblems(options: TransformOptions): OptionProblem[] {
  const { request, response, maxBody } = options;
  const problems: OptionProblem[] = [];
  const maxBytes = parseSizeBytes(maxBody);
  if (maxBytes === null || maxBytes === 0 || maxBytes > MAX_BODY)
    problems.push({ path: 'maxBody', message: `must be whole bytes, from 1 to ${MAX_BODY}` });
  if (!doesSomething(request) && !doesSomething(response))
    problems.push({ path: '', message: 'does nothing: say what becomes of "request" or "response"' });
  return [...problems, ...sideProblems(request, 'request'), ...sideProblems(response, 'response')];
}

function doesSomething(one: Side | undefined): boolean {
  const parts = [...Object.values(one?.headers ?? {}), ...Object.values(one?.body ?? {})];
  return parts.some((part) => Object.keys(part as object).length > 0);
}

function sideProblems(one: Side | undefined, name: 'request' | 'response'): OptionProblem[] {
  const { headers = {}, body = {} } = one ?? {};
  const names = [
    ...Object.keys(headers.set ?? {}).map((key) => [`set.${key}`, key]),
    ...(headers.remove ?? []).map((key, i) => [`remove[${i}]`, key]),
  ];
  const paths = [
    ...(body.remove ?? []).map((path, i) => [`remove[${i}]`, path]),
    ...Object.keys(body.rename ?? {}).map((path) => [`rename.${path}`, path]),
    ...Object.keys(body.set ?? {}).map((path) => [`set.${path}`, path]),
  ];
  return [
    ...headerChangeProblems(headers, name).map(({ path, message }) => ({ path: `${name}.headers.${path}`, message })),
    ...names
      .filter(([, header]) => OWN.test(header))
      .map(([path, header]) => ({ path: `${name}.headers.${path}`, message: `"${header}" is Selvedge's own to say` })),
    ...templatesIn(headers.set ?? {}, `${name}.headers.set`).flatMap(([path, template]) =>
      said(path, templateProblem(template, name)),
    ),
    ...paths.flatMap(([path, written]) => said(`${name}.body.${path}`, pathProblem(written))),
    ...templatesIn(body.set ?? {}, `${name}.body.set`).flatMap(([path, template]) =>
      said(path, templateProblem(template, name)),
    ),
  ];
}

function said(path: string, message: string | null): OptionProblem[] {
  return message === null ? [] : [{ path, message }];
}

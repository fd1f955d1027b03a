// `Strict-Transport-Security` as options say it, and whether a request came by https, which it asks for.
import type { FastifyRequest } from 'fastify';
import { type OptionProblem, parseDurationMs, Type, UNIT_PATTERNS } from '../plugin.ts';

/** What the preload list asks for: hstspreload.org. */
const PRELOAD_MS = 31_536_000_000;

export const hstsOption = Type.Union(
  [
    Type.Object({
      maxAge: Type.String({
        pattern: UNIT_PATTERNS.duration,
        patternErrorMessage: 'must be a duration such as 365d',
      }),
      includeSubDomains: Type.Optional(Type.Boolean()),
      preload: Type.Optional(Type.Boolean()),
    }),
    Type.Literal(false),
  ],
  {
    default: { maxAge: '365d' },
    description:
      '`Strict-Transport-Security`, over HTTPS alone: `maxAge`, and where they are true `includeSubDomains` and `preload`. `maxAge: 0` makes browsers forget it; `false`: not sent.',
  },
);

export type Hsts = { maxAge: string; includeSubDomains?: boolean; preload?: boolean } | false;

/** Null: not sent. */
export function hstsValue(hsts: Hsts): string | null {
  if (hsts === false) return null;
  const seconds = Math.floor((parseDurationMs(hsts.maxAge) as number) / 1_000);
  const parts = [
    `max-age=${seconds}`,
    ...(hsts.includeSubDomains ? ['includeSubDomains'] : []),
    ...(hsts.preload ? ['preload'] : []),
  ];
  return parts.join('; ');
}

export function hstsProblems(hsts: Hsts): OptionProblem[] {
  if (hsts === false) return [];
  const maxAgeMs = parseDurationMs(hsts.maxAge);
  if (maxAgeMs === null || maxAgeMs % 1_000 !== 0) return [{ path: 'hsts.maxAge', message: 'must be whole seconds' }];
  if (!hsts.preload || (hsts.includeSubDomains && maxAgeMs >= PRELOAD_MS)) return [];
  const message = 'browsers preload only with "includeSubDomains" and a "maxAge" of 365d or more';
  return [{ path: 'hsts.preload', message }];
}

/** By TLS here, or by the word of a proxy that may speak for others. The first of several names is what the client used. */
export function cameByHttps({ selvedge, headers }: FastifyRequest): boolean {
  if (selvedge.scheme === 'https') return true;
  if (!selvedge.trusted) return false;
  const [client] = String(headers['x-forwarded-proto'] ?? '').split(',', 1);
  return client.trim().toLowerCase() === 'https';
}

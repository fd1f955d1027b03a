// What responses say about limits: RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), X-RateLimit-* of old.
import type { FastifyReply } from 'fastify';
import type { LimitSettings } from './options.ts';
import type { Grant } from './quota.ts';

export type HeaderKind = 'draft' | 'classic' | 'both' | 'none';
export type WriteHeaders = (reply: FastifyReply, asked: readonly (readonly [LimitSettings, Grant])[]) => void;

const seconds = (ms: number): number => Math.max(1, Math.ceil(ms / 1_000));

/** Seconds after which a refused request is worth another try. Nobody knows when one that is under way ends. */
export const retryAfter = ({ waitMs }: Grant): number => seconds(waitMs);

export function headerWriter(kind: HeaderKind, limits: readonly LimitSettings[]): WriteHeaders {
  const same = limits.filter(({ shadow, planned }) => !shadow && !planned).map(policyOf);
  const sameText = same.join(', ');
  const anyPlanned = limits.some(({ planned }) => planned);
  const draft = kind === 'draft' || kind === 'both';
  const classic = kind === 'classic' || kind === 'both';
  return (reply, asked) => {
    if (asked.length === 0) return;
    if (draft) {
      // Those that were asked in an earlier hook stay.
      const before = reply.getHeader('ratelimit');
      let now = '';
      for (const [limit, grant] of asked) now += now === '' ? stateOf(limit, grant) : `, ${stateOf(limit, grant)}`;
      reply.header('ratelimit', before === undefined ? now : `${String(before)}, ${now}`);
      // Of a limit with plans, that of the client's.
      const own = anyPlanned ? asked.filter(([limit]) => limit.planned).map(([limit]) => policyOf(limit)) : [];
      const said = reply.getHeader('ratelimit-policy');
      if (said === undefined && own.length === 0) reply.header('ratelimit-policy', sameText);
      else {
        const earlier = said === undefined ? [] : String(said).split(', ');
        reply.header('ratelimit-policy', [...new Set([...earlier, ...same, ...own])].join(', '));
      }
    }
    if (classic) for (const [limit, grant] of asked) writeClassic(reply, limit, grant);
  };
}

/** `"100-per-1m";q=100;w=60`. The time of a quota is whole seconds there; a shorter one is left out. */
function policyOf(limit: LimitSettings): string {
  if ('inFlight' in limit) return `"${limit.name}";q=${limit.inFlight};qu="concurrent-requests"`;
  const { capacity, periodMs } = limit.quota;
  return `"${limit.name}";q=${capacity}${periodMs < 1_000 ? '' : `;w=${Math.round(periodMs / 1_000)}`}`;
}

/** `"100-per-1m";r=57;t=12`. */
function stateOf(limit: LimitSettings, { remaining, waitMs }: Grant): string {
  return `"${limit.name}";r=${remaining}${'inFlight' in limit ? '' : `;t=${seconds(waitMs)}`}`;
}

/** These have room for one limit: the one of which least is left. */
function writeClassic(reply: FastifyReply, limit: LimitSettings, { remaining, waitMs }: Grant): void {
  if ('inFlight' in limit) return;
  const before = reply.getHeader('x-ratelimit-remaining');
  if (before !== undefined && Number(before) <= remaining) return;
  reply.header('x-ratelimit-limit', String(limit.quota.capacity));
  reply.header('x-ratelimit-remaining', String(remaining));
  reply.header('x-ratelimit-reset', String(seconds(waitMs)));
}

// W3C Trace Context, level 1: `traceparent` is read and written, `tracestate` is other vendors' and passes as it is.
import { type Format, type Headers, isId, type Parent } from './context.ts';

/** version, trace id, parent id, flags; a later version may have more behind a hyphen (section 4.3). */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;
/** Of version 00, which has nothing behind its flags. */
const LENGTH_00 = 55;
const SAMPLED = 1;

/** Section 3.3.1.1: at most so many members; and section 3.3.1.5: what every system has to be able to carry. */
const MAX_MEMBERS = 32;
const MAX_TRACESTATE = 512;

export const w3c: Format = {
  read({ traceparent }) {
    return typeof traceparent === 'string' ? parseTraceparent(traceparent) : null;
  },
  write(headers, context) {
    headers.traceparent = formatTraceparent(context.traceId, context.spanId, context.sampled);
  },
  append(lines, context) {
    lines.push('traceparent', formatTraceparent(context.traceId, context.spanId, context.sampled));
  },
};

/** Null: malformed, so that the trace begins anew (section 3.2.2.3). */
export function parseTraceparent(text: string): Parent | null {
  const [, version, traceId, spanId, flags] = TRACEPARENT.exec(text) ?? [];
  if (version === undefined || version === 'ff' || !isId(traceId) || !isId(spanId)) return null;
  if (version === '00' && text.length !== LENGTH_00) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) === SAMPLED };
}

export function formatTraceparent(traceId: string, spanId: string, sampled: boolean): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

/**
 * `tracestate` belongs to the trace of its `traceparent`: where the request goes on in another one, or it is over its bounds, it is
 * taken out. Returns what stays.
 */
export function keepTracestate(headers: Headers, traceId: string, parent: Parent | null): string | null {
  const { tracestate } = headers;
  if (tracestate === undefined) return null;
  if (typeof tracestate === 'string' && parent?.traceId === traceId && isBounded(tracestate)) return tracestate;
  delete headers.tracestate;
  return null;
}

function isBounded(tracestate: string): boolean {
  return tracestate.length <= MAX_TRACESTATE && tracestate.split(',').length <= MAX_MEMBERS;
}

// Zipkin's B3 headers: both forms are read, the configured ones are written, and no other form stays behind to contradict them.
import { type Format, type Headers, isId, type Parent, type SpanContext } from './context.ts';

/** `{trace id}-{span id}[-{sampling}[-{parent span id}]]`. */
const SINGLE = /^([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?$/i;
const TRACE_ID = /^(?:[0-9a-f]{16}|[0-9a-f]{32})$/i;
const SPAN_ID = /^[0-9a-f]{16}$/i;

const MULTI = ['x-b3-traceid', 'x-b3-spanid', 'x-b3-parentspanid', 'x-b3-sampled', 'x-b3-flags'] as const;

export function b3(forms: { readonly single: boolean; readonly multi: boolean }): Format {
  const append = (lines: string[], { traceId, spanId, sampled }: SpanContext): void => {
    const flag = sampled ? '1' : '0';
    if (forms.single) lines.push('b3', `${traceId}-${spanId}-${flag}`);
    if (forms.multi) lines.push('x-b3-traceid', traceId, 'x-b3-spanid', spanId, 'x-b3-sampled', flag);
  };
  return {
    read: (headers) => readSingle(headers.b3) ?? readMulti(headers),
    write(headers, context) {
      delete headers.b3;
      for (const name of MULTI) delete headers[name];
      const lines: string[] = [];
      append(lines, context);
      for (let index = 0; index < lines.length; index += 2) headers[lines[index]] = lines[index + 1];
    },
    append,
  };
}

function readSingle(value: Headers[string]): Parent | null {
  if (typeof value !== 'string') return null;
  if (value === '0' || value === '1' || value === 'd') return decision(value);
  const [, traceId, spanId, sampling] = SINGLE.exec(value) ?? [];
  return traceId === undefined ? null : parentOf(traceId, spanId, sampling?.toLowerCase());
}

function readMulti(headers: Headers): Parent | null {
  const traceId = headers['x-b3-traceid'];
  const spanId = headers['x-b3-spanid'];
  const sampled = headers['x-b3-sampled'];
  const sampling = headers['x-b3-flags'] === '1' ? 'd' : SAMPLED_VALUES.get(String(sampled));
  if (traceId === undefined && spanId === undefined) return sampling === undefined ? null : decision(sampling);
  if (typeof traceId !== 'string' || typeof spanId !== 'string') return null;
  return TRACE_ID.test(traceId) && SPAN_ID.test(spanId) ? parentOf(traceId, spanId, sampling) : null;
}

/** Older tracers wrote words. */
const SAMPLED_VALUES: ReadonlyMap<string, string> = new Map([
  ['0', '0'],
  ['1', '1'],
  ['false', '0'],
  ['true', '1'],
]);

function decision(sampling: string): Parent {
  return { traceId: null, spanId: null, sampled: sampling !== '0' };
}

function parentOf(traceId: string, spanId: string, sampling: string | undefined): Parent | null {
  // 64-bit ids are the lower half of what everyone else has.
  const whole = traceId.toLowerCase().padStart(32, '0');
  const span = spanId.toLowerCase();
  if (!isId(whole) || !isId(span)) return null;
  return { traceId: whole, spanId: span, sampled: sampling === undefined ? null : sampling !== '0' };
}

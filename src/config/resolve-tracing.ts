// Resolves where traces go, and checks what the schema cannot: the address and the headers of the collector.
import { collectorHeaderProblem, TRACES_URL_EXPECTED, tracesUrl } from '../http/otlp.ts';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Tracing } from './model.ts';
import { fraction } from './units.ts';

type TracingInput = NonNullable<NonNullable<CompleteConfig['telemetry']>['tracing']>;

export function resolveTracing(written: Cursor<TracingInput> | null): Tracing | null {
  if (written === null || written.value === false) return null;
  const tracing = written as Cursor<Exclude<TracingInput, false>>;
  const otlp = tracing.at('otlp');
  if (tracesUrl(otlp.value) === null) otlp.error(`must be ${TRACES_URL_EXPECTED}`);
  const headers: Record<string, string> = {};
  for (const [name, value] of tracing.at('headers').filled().entries()) {
    const problem = collectorHeaderProblem(name, value.value);
    if (problem !== null) value.error(problem);
    const key = name.toLowerCase();
    if (Object.hasOwn(headers, key)) value.error(`"${key}" is given twice`);
    headers[key] = value.value;
  }
  return {
    otlp: otlp.value,
    sample: fraction(tracing.at('sample').filled()),
    propagate: tracing.at('propagate').filled().value,
    headers,
    trustParent: tracing.at('trustParent').filled().value,
  };
}

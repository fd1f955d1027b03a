// At the start of a request: which trace it goes on in, whether it is sampled, and what its headers say of that from here on.
import { b3 } from './b3.ts';
import type { Format, Headers, Parent, SpanContext } from './context.ts';
import { newSpanId, newTraceId } from './ids.ts';
import { keepTracestate, w3c } from './w3c.ts';

export const FORMATS = ['w3c', 'b3', 'b3multi'] as const;
export type FormatName = (typeof FORMATS)[number];

export interface Sampling {
  /** Of requests about which nobody whose word counts has decided, 0 to 1. */
  readonly share: number;
  /** Whether the caller's decision counts. */
  readonly trustParent: boolean;
  /** Uniform, in [0, 1). */
  readonly random: () => number;
}

/** Where the request's own span stands. */
export interface Begun extends SpanContext {
  /** Null: the trace begins here. */
  readonly parentSpanId: string | null;
  readonly traceState: string | null;
}

export class Propagation {
  /** In the order in which they are asked. */
  readonly #formats: readonly Format[];
  readonly #w3cAlone: boolean;

  constructor(names: readonly FormatName[]) {
    const zipkin = b3({ single: names.includes('b3'), multi: names.includes('b3multi') });
    this.#formats = [...new Set(names.map((name) => (name === 'w3c' ? w3c : zipkin)))];
    this.#w3cAlone = this.#formats.length === 1 && this.#formats[0] === w3c;
  }

  /** Takes up the caller's trace or begins one, and writes it to the headers. */
  begin(headers: Headers, sampling: Sampling): Begun {
    const parent = this.#read(headers);
    const sampled = decide(parent, sampling);
    const traceId = parent?.traceId ?? newTraceId();
    const parentSpanId = parent === null ? null : parent.spanId;
    const traceState = headers.tracestate === undefined ? null : this.#keepTracestate(headers, traceId);
    // Nothing to say that the caller has not said: what stands behind gets the caller's span for a parent, not one that nobody ever sees.
    // A decision that is changed is another matter: it needs an id of its own (W3C Trace Context, section 3.4).
    const silent = !sampled && parentSpanId !== null && parent?.sampled !== true;
    const spanId = silent ? parentSpanId : newSpanId();
    const begun: Begun = { traceId, spanId, sampled, parentSpanId, traceState };
    if (silent && this.#w3cAlone) return begun;
    for (const format of this.#formats) format.write(headers, begun);
    return begun;
  }

  /** Name and value in turn. */
  lines(context: SpanContext): string[] {
    const lines: string[] = [];
    for (const format of this.#formats) format.append(lines, context);
    return lines;
  }

  /** Where W3C is not ours to look after it passes like any other header. */
  #keepTracestate(headers: Headers, traceId: string): string | null {
    return this.#formats.includes(w3c) ? keepTracestate(headers, traceId, w3c.read(headers)) : null;
  }

  #read(headers: Headers): Parent | null {
    for (const format of this.#formats) {
      const parent = format.read(headers);
      if (parent !== null) return parent;
    }
    return null;
  }
}

/**
 * Drawn at random and never by the trace id: a stranger may choose that, and would choose one that is always sampled. Further on
 * everyone goes by the decision that is made here.
 */
export function decide(parent: Parent | null, { share, trustParent, random }: Sampling): boolean {
  if (trustParent && parent !== null && parent.sampled !== null) return parent.sampled;
  return random() < share;
}

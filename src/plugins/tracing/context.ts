// Where a request stands in its trace, and how that is read from and written to headers.

/** What a caller said. Ids are lower-case hexadecimal, 32 and 16 digits. */
export interface Parent {
  /** Null: only whether to sample was said. */
  readonly traceId: string | null;
  readonly spanId: string | null;
  /** Null: left to us. */
  readonly sampled: boolean | null;
}

export interface SpanContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled: boolean;
}

/** As Node has them: lower-case names, most repeated ones joined. */
export type Headers = Record<string, string | string[] | undefined>;

/** One convention of headers. */
export interface Format {
  /** Null where there is none, or none that is well-formed. */
  read(headers: Headers): Parent | null;
  /** Replaces whatever the headers say in this convention. */
  write(headers: Headers, context: SpanContext): void;
  /** The same as lines, name and value in turn. */
  append(lines: string[], context: SpanContext): void;
}

const NO_TRACE = '0'.repeat(32);
const NO_SPAN = '0'.repeat(16);

/** The conventions forbid ids of zeros alone. */
export function isId(id: string): boolean {
  return id !== NO_TRACE && id !== NO_SPAN;
}

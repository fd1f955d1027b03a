// JSON bodies as plugins read them: which they are, and their values without loss.

/** RFC 8259 and the `+json` types of RFC 6839. */
const JSON_TYPE = /^application\/(?:[a-z0-9!#$&^_.-]+\+)?json(?:\s*;.*)?$/i;

export function isJsonType(contentType: string | string[] | undefined): boolean {
  return typeof contentType === 'string' && JSON_TYPE.test(contentType.trim());
}

/** Bytes that stand for no encoding at all. */
export function isPlain(contentEncoding: string | string[] | undefined): boolean {
  return (
    contentEncoding === undefined || contentEncoding === '' || String(contentEncoding).toLowerCase() === 'identity'
  );
}

interface ExactJson {
  parse(text: string, reviver: (key: string, value: unknown, context?: { source?: string }) => unknown): unknown;
  rawJSON?(text: string): unknown;
  isRawJSON?(value: unknown): boolean;
}
const { parse, rawJSON, isRawJSON } = JSON as unknown as ExactJson;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });

/**
 * Numbers that a double cannot hold keep their digits where Node can do that (22 and later), so that a value which is only passed on comes
 * out as it went in.
 */
function parseJson(bytes: Buffer): unknown {
  const text = utf8.decode(bytes);
  if (rawJSON === undefined) return JSON.parse(text);
  return parse.call(JSON, text, (_key, value, context) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source
      ? rawJSON(context.source)
      : value,
  );
}

/** An object or list, as opposed to a number that kept its digits. */
export function isContainer(value: unknown): value is Record<string, unknown> | unknown[] {
  return typeof value === 'object' && value !== null && isRawJSON?.(value) !== true;
}

/** Null: it is no JSON in UTF-8, or nested deeper than any stack has room for. */
export function readJson(bytes: Buffer): { readonly json: unknown } | null {
  return tried(() => parseJson(bytes));
}

/** The same with every number as JavaScript has it: to be looked at, not to be sent on. */
export function readPlainJson(bytes: Buffer): { readonly json: unknown } | null {
  return tried(() => JSON.parse(utf8.decode(bytes)));
}

function tried(read: () => unknown): { readonly json: unknown } | null {
  try {
    return { json: read() };
  } catch {
    return null;
  }
}

// The octet classes of RFC 9110 section 5.6.2 and 5.5, as tables, and the field names that decide about framing.

export const HTAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const QUOTE = 0x22;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;
export const EQUALS = 0x3d;
export const BACKSLASH = 0x5c;

/** 1 for every octet of a token (field names, methods). */
export const TOKEN: Uint8Array = tableOf((octet) => /[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(octet)));

/** 1 for every octet that a field value, reason phrase or chunk extension may hold: HTAB, SP, VCHAR, obs-text. */
export const FIELD_CONTENT: Uint8Array = tableOf((octet) => octet === HTAB || (octet >= SP && octet !== 0x7f));

/** Value of a hexadecimal digit, 255 for everything else. */
export const HEX_VALUE: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) => {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(octet).toLowerCase());
  return value < 0 ? 255 : value;
});

function tableOf(belongs: (octet: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, octet) => (belongs(octet) ? 1 : 0));
}

/** Names that must not travel as trailers: framing, routing, modifiers, authentication, content format (RFC 9110 section 6.5.1). */
const FORBIDDEN_TRAILERS: ReadonlySet<string> = new Set([
  'age',
  'authorization',
  'cache-control',
  'connection',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'cookie',
  'date',
  'expect',
  'expires',
  'forwarded',
  'host',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'keep-alive',
  'location',
  'max-forwards',
  'pragma',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'range',
  'retry-after',
  'set-cookie',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'vary',
  'via',
  'warning',
  'www-authenticate',
  'x-forwarded-client-cert',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
]);

/** Whether this trailer line may be passed on. Some servers put trailers among headers, and CGI reads `x_user` as `x-user`. */
export function allowedAsTrailer(name: string): boolean {
  const plain = name.toLowerCase().replaceAll('_', '-');
  return !FORBIDDEN_TRAILERS.has(plain) && !plain.startsWith('x-selvedge-');
}

/** Whether this line decides where a message ends. */
export function isFraming(name: string): boolean {
  const lower = name.toLowerCase();
  return lower === 'content-length' || lower === 'transfer-encoding';
}

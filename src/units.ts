// How a config and plugin options write time, size, share and rate: read once while a config loads, never during a request.

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

const DURATION = /^(?:\d{1,12}(?:\.\d{1,6})?(?:ms|s|m|h|d))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g;
const SIZE = /^(\d{1,15}(?:\.\d{1,6})?)(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?$/;
const SHARE = /^(\d{1,3}(?:\.\d{1,6})?)%$/;
const RATE = /^([^/]{1,24})\/(?:(ms|s|m|h|d)|(\d[^/]{0,23}))$/;

/** Node's timers hold a signed 32-bit number of milliseconds; more fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** As users write them: for messages and for the patterns of schemas. */
export const UNIT_EXAMPLES = {
  duration: '250ms, 10s, 5m, 1h30m',
  size: '512B, 64KiB, 1MiB',
  share: '20%',
  rate: '240B/s, 100/30s',
} as const;

/** Regular expressions of the same grammars, as JSON Schema `pattern` wants them. */
export const UNIT_PATTERNS = {
  duration: `${DURATION.source}|^0$`,
  size: SIZE.source,
  share: SHARE.source,
  rate: RATE.source,
} as const;

/** `250ms`, `10s`, `5m`, `1h30m`, `0`: whole milliseconds. Null when it is not a duration; a bare number other than 0 is none, its unit is missing. */
export function parseDurationMs(text: string | number): number | null {
  if (text === 0 || text === '0') return 0;
  if (typeof text !== 'string' || !DURATION.test(text)) return null;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(DURATION_PART)) total += Number(amount) * MILLISECONDS[unit as string];
  return whole(total);
}

/** `512B`, `64KiB` (1024s), `64KB` (1000s), `1048576`: whole bytes. Null when it is not a size. */
export function parseSizeBytes(text: string | number): number | null {
  const [, amount, unit] = SIZE.exec(String(text)) ?? [];
  return amount === undefined ? null : whole(Number(amount) * BYTES[unit ?? 'B']);
}

/** `20%`, `0.5%`: 0 to 1. Null when it is not a share or above 100%; the percent sign is never optional, `0.2` could mean either. */
export function parseShare(text: string | number): number | null {
  const amount = SHARE.exec(String(text))?.[1];
  if (amount === undefined) return null;
  const share = Number(amount) / 100;
  return share <= 1 ? share : null;
}

/** `240B/s`, `1KiB/s`, `100/30s`, `60/m`: bytes or things a second. Null when it is not a rate. */
export function parseRate(text: string | number): number | null {
  if (text === 0 || text === '0') return 0;
  const [, size, unit, window] = RATE.exec(String(text)) ?? [];
  if (size === undefined) return null;
  const amount = parseSizeBytes(size);
  const windowMs = unit === undefined ? parseDurationMs(window as string) : MILLISECONDS[unit];
  return amount === null || windowMs === null || windowMs === 0 ? null : (amount * 1_000) / windowMs;
}

/** Null for what does not come out whole: `0.1ms` must not silently become 0, which means "off". */
function whole(amount: number): number | null {
  const rounded = Math.round(amount);
  return Number.isSafeInteger(rounded) && Math.abs(amount - rounded) < 1e-6 ? rounded : null;
}

// How much a client wants a media type, by its Accept header (RFC 9110 section 12.5.1).

/** Ranges that are looked at; no client that means well sends more. */
const MAX_RANGES = 64;
const WEIGHT = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/** 0: not at all, to 1. The most specific range decides; parameters other than `q` are passed over. Without a header everything is 1. */
export function acceptQuality(accept: string | undefined, type: string): number {
  if (accept === undefined || accept.trim() === '') return 1;
  const family = `${type.slice(0, type.indexOf('/'))}/*`;
  let specificity = 0;
  let quality = 0;
  for (const range of accept.toLowerCase().split(',', MAX_RANGES)) {
    const [name, ...parameters] = range.split(';').map((part) => part.trim());
    const found = name === type ? 3 : name === family ? 2 : name === '*/*' ? 1 : 0;
    if (found === 0 || found < specificity) continue;
    const weight = weightOf(parameters);
    quality = found === specificity ? Math.max(quality, weight) : weight;
    specificity = found;
  }
  return quality;
}

function weightOf(parameters: readonly string[]): number {
  const written = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  return written === undefined ? 1 : WEIGHT.test(written) ? Number(written) : 0;
}

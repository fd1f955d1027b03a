// Where a key falls between 0 and 1: how shares are cut so that the same client, or the same request id, always falls on the same side.

/** Deterministic and evenly spread, in [0, 1). Not for secrets. */
export function positionOf(key: string): number {
  return hashOf(key) / 0x1_0000_0000;
}

/**
 * A whole number below 2^32: FNV-1a over UTF-16 code units with murmur3's finaliser, because FNV alone leaves the high bits of
 * short keys too alike. Not for secrets.
 */
export function hashOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/** murmur3's finaliser: every bit of a 32-bit number comes to bear on every bit of the result, and no two get the same one. */
export function mix(bits: number): number {
  let hash = bits;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

// The compressors of node:zlib, with windows small enough that thousands of them fit into memory.
import { promisify } from 'node:util';
import zlib, { constants } from 'node:zlib';
import type { Encoding } from './negotiation.ts';

type Encoder = zlib.Gzip | zlib.BrotliCompress | zlib.ZstdCompress;

export interface Codec {
  /** A stream: each takes about 1 MiB at the most while it lives. */
  open(): Encoder;
  whole(body: Buffer): Promise<Buffer>;
  /** What `flush` of the stream is to be called with: all that was written so far can be read then. */
  readonly flushKind: number;
}

/** log2 of the window in bytes: 512 KiB. Larger ones pay on bodies of many megabytes alone. */
const WINDOW_BITS = 19;

export type Levels = Readonly<Record<Encoding, number>>;

/** What this Node offers: zstd from 22.15 on. */
export const AVAILABLE: readonly Encoding[] =
  typeof zlib.createZstdCompress === 'function' ? ['br', 'zstd', 'gzip'] : ['br', 'gzip'];

export function codecs(levels: Levels): Readonly<Record<Encoding, Codec>> {
  return { br: brotli(levels.br), gzip: gzip(levels.gzip), zstd: zstd(levels.zstd) };
}

function brotli(level: number): Codec {
  const params = { [constants.BROTLI_PARAM_QUALITY]: level, [constants.BROTLI_PARAM_LGWIN]: WINDOW_BITS };
  const compress = promisify<zlib.InputType, zlib.BrotliOptions, Buffer>(zlib.brotliCompress);
  return {
    open: () => zlib.createBrotliCompress({ params }),
    whole: (body) => compress(body, { params: { ...params, [constants.BROTLI_PARAM_SIZE_HINT]: body.length } }),
    flushKind: constants.BROTLI_OPERATION_FLUSH,
  };
}

function gzip(level: number): Codec {
  const compress = promisify<zlib.InputType, zlib.ZlibOptions, Buffer>(zlib.gzip);
  return {
    open: () => zlib.createGzip({ level }),
    whole: (body) => compress(body, { level }),
    flushKind: constants.Z_SYNC_FLUSH,
  };
}

function zstd(level: number): Codec {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_windowLog]: WINDOW_BITS,
  };
  return {
    open: () => zlib.createZstdCompress({ params }),
    whole: (body) => promisify<zlib.InputType, zlib.ZstdOptions, Buffer>(zlib.zstdCompress)(body, { params }),
    flushKind: constants.ZSTD_e_flush,
  };
}

// Passes connections on from a port of its own and reads along: is everything that goes by a TLS record?
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Owner } from '../process.ts';

/** ContentTypes of RFC 8446, section 5.1: change_cipher_spec, alert, handshake, application_data. */
const TYPES = [20, 21, 22, 23];

/** Octets of a record's fragment, with what encryption may add to it (TLS 1.2 is the more generous). */
const MAX_FRAGMENT = 2 ** 14 + 2048;

const HEADER = 5;

/** One direction of one connection. */
export class RecordReader {
  records = 0;
  /** Those with application data. */
  data = 0;
  /** What was no TLS, once. */
  problem: string | null = null;
  readonly #header: number[] = [];
  #left = 0;

  read(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && this.problem === null; ) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      this.#header.push(chunk[at]);
      at += 1;
      if (this.#header.length === HEADER) this.#begin(this.#header.splice(0));
    }
  }

  #begin(header: readonly number[]): void {
    const [type, major, minor, high, low] = header;
    const length = high * 256 + low;
    if (!TYPES.includes(type) || major !== 3 || minor > 4 || length === 0 || length > MAX_FRAGMENT) {
      this.problem = `no TLS record begins with ${Buffer.from(header).toString('hex')}`;
      return;
    }
    this.records += 1;
    if (type === 23) this.data += 1;
    this.#left = length;
  }
}

export interface TlsTap {
  readonly port: number;
  readonly connections: number;
  /** Of both directions. */
  readonly records: number;
  readonly data: number;
  /** Empty: only TLS went by. */
  readonly problems: readonly string[];
}

/** In front of a port where somebody listens by the time of the first connection. */
export async function openTlsTap(owner: Owner, to: number): Promise<TlsTap> {
  const readers: RecordReader[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(to, '127.0.0.1');
    for (const [from, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      const reader = new RecordReader();
      readers.push(reader);
      sockets.add(from);
      from.setNoDelay();
      from.on('data', (chunk: Buffer) => {
        reader.read(chunk);
        other.write(chunk);
      });
      from.on('end', () => other.end());
      from.on('error', () => other.destroy());
      from.on('close', () => {
        sockets.delete(from);
        other.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  owner.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const sum = (of: (reader: RecordReader) => number): number =>
    readers.reduce((total, reader) => total + of(reader), 0);
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return readers.length / 2;
    },
    get records() {
      return sum(({ records }) => records);
    },
    get data() {
      return sum(({ data }) => data);
    },
    get problems() {
      return readers.flatMap(({ problem }) => problem ?? []);
    },
  };
}

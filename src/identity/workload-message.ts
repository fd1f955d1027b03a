// The two messages of the SPIFFE Workload API that are needed (SPIFFE_Workload_API.md, workload.proto), decoded by hand.
import { LENGTH_DELIMITED, ProtobufReader } from '../http/grpc-wire.ts';
import { DerReader, TAG } from './der.ts';

/** Of X509SVID. */
export interface WorkloadSvid {
  readonly id: string;
  /** DER: the leaf, then its intermediates. */
  readonly certificates: readonly Buffer[];
  /** DER, PKCS #8. */
  readonly key: Buffer;
  /** DER of the roots of its trust domain. */
  readonly roots: readonly Buffer[];
}

/** Of X509SVIDResponse. */
export interface WorkloadSvids {
  /** The default one first. */
  readonly svids: readonly WorkloadSvid[];
  /** DER of roots by SPIFFE id of their trust domain. Empty where a domain has keys for JWTs alone. */
  readonly federated: ReadonlyMap<string, readonly Buffer[]>;
}

/** SVIDs, and federated trust domains, in one response at most. */
const MAX_ENTRIES = 1_000;

/** Certificates in one field at most. */
const MAX_CERTIFICATES = 64;

/** Null: it is malformed. */
export function readSvids(message: Buffer): WorkloadSvids | null {
  const svids: WorkloadSvid[] = [];
  const federated = new Map<string, readonly Buffer[]>();
  const whole = eachBytes(message, (field, content) => {
    if (field === 1) {
      const svid = readSvid(content);
      if (svid === null) return false;
      svids.push(svid);
    } else if (field === 3) {
      const entry = fields(content);
      const roots = entry === null ? null : certificates(entry.get(2));
      if (roots === null) return false;
      federated.set(entry?.get(1)?.toString('utf8') ?? '', roots);
    }
    return svids.length <= MAX_ENTRIES && federated.size <= MAX_ENTRIES;
  });
  return whole ? { svids, federated } : null;
}

function readSvid(message: Buffer): WorkloadSvid | null {
  const found = fields(message);
  const [chain, roots] = [certificates(found?.get(2)), certificates(found?.get(4))];
  const [id, key] = [found?.get(1), found?.get(3)];
  if (!chain?.length || !roots?.length || id === undefined || key === undefined) return null;
  return { id: id.toString('utf8'), certificates: chain, key, roots };
}

/** The last one counts where a field comes twice. */
function fields(message: Buffer): ReadonlyMap<number, Buffer> | null {
  const found = new Map<number, Buffer>();
  const whole = eachBytes(message, (field, content) => {
    if (field <= 5) found.set(field, content);
    return true;
  });
  return whole ? found : null;
}

/** False: malformed, or `take` did not want to go on. */
function eachBytes(message: Buffer, take: (field: number, content: Buffer) => boolean): boolean {
  const reader = new ProtobufReader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === null) return false;
    if (tag.wireType !== LENGTH_DELIMITED) {
      if (!reader.skip(tag.wireType)) return false;
      continue;
    }
    const content = reader.bytes();
    if (content === null || !take(tag.field, content)) return false;
  }
  return true;
}

/** Certificates lie one after the other, with nothing between. Null: something else is there, or too many. */
function certificates(joined: Buffer = Buffer.alloc(0)): readonly Buffer[] | null {
  const found: Buffer[] = [];
  const reader = new DerReader(joined);
  try {
    while (!reader.done) found.push(reader.expect(TAG.sequence).raw);
  } catch {
    return null;
  }
  return found.length > MAX_CERTIFICATES ? null : found;
}

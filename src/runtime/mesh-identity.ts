// Who this process is in the mesh: holds the source of certificates across reloads, and makes of it what listeners and pools need.

import { X509Certificate } from 'node:crypto';
import type {
  ConnectionOptions,
  DetailedPeerCertificate,
  SecureContext,
  SecureContextOptions,
  TLSSocket,
} from 'node:tls';
import { createSecureContext } from 'node:tls';
import type { Config, Mesh, ServiceConfig } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { IdentityLog } from '../identity/deps.ts';
import type { IdentitySource, Svid, TrustBundles } from '../identity/source.ts';
import { gatewayId, type SpiffeId, serviceId } from '../identity/spiffe-id.ts';
import { verifyPeer } from '../identity/verify.ts';
import type { Peer, Role } from '../plugin.ts';
import type { Caller } from '../upstream/caller.ts';
import type { ListenerSpec } from './listener-spec.ts';

/** TLS 1.2 because meshes are migrated, not because it is wanted. */
const MIN_VERSION = 'TLSv1.2';
const SESSION_ID_CONTEXT = 'selvedge mesh';

/** Where the certificates of a mesh come from. */
export type OpenIdentity = (mesh: Mesh, log: IdentityLog) => Promise<IdentitySource>;

/** Loaded with the first mesh: a process without one never reads it. */
export async function openMeshIdentity(
  { trustDomain, aliases, identity }: Mesh,
  log: IdentityLog,
): Promise<IdentitySource> {
  const { openIdentity } = await import('../identity/open.ts');
  return openIdentity(identity, { trustDomain, aliases, log });
}

/** As the admin API tells it. */
export interface IdentityState {
  readonly trustDomain: string;
  /** Trust domains whose roots are known. */
  readonly trusted: readonly string[];
  readonly certificates: readonly {
    readonly id: string;
    readonly notBefore: string;
    readonly expiresAt: string;
    readonly expired: boolean;
  }[];
  /** What could not be renewed, and when it ends. */
  readonly warnings: readonly string[];
}

/** What one config asks for, ready but not in force. Exactly one of the two is called. */
export interface PreparedIdentity {
  /** Errors only; with any, `abandon` is the only choice. */
  readonly problems: readonly Problem[];
  commit(): void;
  abandon(): void;
}

interface Held {
  readonly key: string;
  readonly trustDomain: string;
  readonly source: IdentitySource;
  readonly stop: () => void;
}

export class MeshIdentity {
  readonly #open: OpenIdentity;
  readonly #log: IdentityLog;
  readonly #onChange: () => void;
  readonly #callers = new Map<string, MeshCaller>();
  #held: Held | null = null;
  /** Those that the config in force needs. */
  #ids: readonly string[] = [];
  /** Certificates, keys or trust have changed so often. */
  version = 1;

  /** @param onChange listeners are to take the new certificate */
  constructor(open: OpenIdentity, log: IdentityLog, onChange: () => void) {
    this.#open = open;
    this.#log = log;
    this.#onChange = onChange;
  }

  /** Never rejects: a certificate that cannot be had is a problem. */
  async prepare(config: Config, specs: readonly ListenerSpec[]): Promise<PreparedIdentity> {
    const ids = neededIds(config, specs);
    if (ids.length === 0) return { problems: [], commit: () => this.#replace(null, ids), abandon() {} };
    const { trustDomain, aliases, identity } = config.mesh;
    const key = JSON.stringify([trustDomain, aliases, identity]);
    const held = this.#held?.key === key ? this.#held : null;
    let source: IdentitySource | null = null;
    try {
      source = held?.source ?? (await this.#open(config.mesh, this.#log));
      await source.need(ids);
    } catch (error) {
      if (held === null) source?.close();
      return { problems: [problemOf(error)], commit() {}, abandon() {} };
    }
    if (held !== null) return { problems: [], commit: () => this.#replace(held, ids), abandon() {} };
    const opened = source;
    return {
      problems: [],
      commit: () =>
        this.#replace({ key, trustDomain, source: opened, stop: opened.onChange(() => this.#changed()) }, ids),
      abandon: () => opened.close(),
    };
  }

  /** The certificates of this process. */
  svids(): Svid[] {
    return this.#ids.flatMap((id) => this.source?.svid(id) ?? []);
  }

  /** What an operator asks of them; null: none are needed. */
  describe(): IdentityState | null {
    if (this.#held === null) return null;
    const { trustDomain, source } = this.#held;
    const now = Date.now();
    const certificates = this.svids().map(({ id, notBefore, expiresAt }) => ({
      id,
      notBefore: new Date(notBefore).toISOString(),
      expiresAt: new Date(expiresAt).toISOString(),
      expired: expiresAt <= now,
    }));
    return {
      trustDomain,
      trusted: [...source.bundles().keys()],
      certificates,
      warnings: source.warnings(),
    };
  }

  /** Null while the mesh is off. */
  get source(): IdentitySource | null {
    return this.#held?.source ?? null;
  }

  /** The same object for the same id, across reloads. */
  caller(id: string): Caller {
    let caller = this.#callers.get(id);
    if (caller === undefined) {
      caller = new MeshCaller(id, this);
      this.#callers.set(id, caller);
    }
    return caller;
  }

  /** With the certificate of `id`; null: there is none yet. */
  contextOptions(id: string): SecureContextOptions | null {
    const svid = this.source?.svid(id) ?? null;
    if (svid === null) return null;
    const ca = [...this.#bundles().values()];
    return { cert: svid.cert, key: svid.key, ca, minVersion: MIN_VERSION, sessionIdContext: SESSION_ID_CONTEXT };
  }

  /** The peer of a connection whose chain OpenSSL has accepted, or why it is refused all the same. */
  verify(socket: TLSSocket): Peer | string {
    const verdict = verifyPeer(socket, this.#bundles(), Date.now(), 'client');
    const leaf = socket.getPeerX509Certificate();
    if (!verdict.ok) return verdict.reason;
    return leaf === undefined ? 'no certificate' : peerOf(leaf, verdict.id);
  }

  /** For `checkServerIdentity`: undefined when this is `expects`. */
  refuse(certificate: DetailedPeerCertificate, expects: string): Error | undefined {
    const result = verifyPeer(chainOf(certificate), this.#bundles(), Date.now(), 'server');
    if (!result.ok) return new Error(`the hop is refused: ${result.reason}`);
    return result.id.id === expects ? undefined : new Error(`the hop is ${result.id.id}, not ${expects}`);
  }

  close(): void {
    this.#replace(null, []);
  }

  #bundles(): TrustBundles {
    return this.source?.bundles() ?? NO_BUNDLES;
  }

  #replace(held: Held | null, ids: readonly string[]): void {
    this.#ids = ids;
    const before = this.#held;
    if (before === held) return;
    this.#held = held;
    before?.stop();
    before?.source.close();
    if (held !== null || before !== null) this.#changed();
  }

  #changed(): void {
    this.version += 1;
    this.#onChange();
  }
}

const NO_BUNDLES: TrustBundles = new Map();

class MeshCaller implements Caller {
  readonly id: string;
  readonly #identity: MeshIdentity;
  #context: SecureContext | null = null;
  #contextVersion = 0;

  constructor(id: string, identity: MeshIdentity) {
    this.id = id;
    this.#identity = identity;
  }

  get version(): number {
    return this.#identity.version;
  }

  connectionOptions(expects: string): ConnectionOptions {
    if (this.#context === null || this.#contextVersion !== this.version) {
      const options = this.#identity.contextOptions(this.id);
      if (options === null) throw new Error(`there is no certificate for ${this.id}`);
      this.#context = createSecureContext(options);
      this.#contextVersion = this.version;
    }
    return {
      secureContext: this.#context,
      minVersion: MIN_VERSION,
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: true,
      // The name of a hop is its SPIFFE id, whatever address it is dialled by.
      checkServerIdentity: (_host, certificate) =>
        this.#identity.refuse(certificate as DetailedPeerCertificate, expects),
    };
  }
}

function problemOf(error: unknown): Problem {
  const message = error instanceof Error ? error.message : String(error);
  return { severity: 'error', place: null, path: 'mesh.identity', message };
}

/** The certificates that the listeners and callers of this process must have. */
function neededIds({ mesh, services }: Config, specs: readonly ListenerSpec[]): string[] {
  const dials = services.some(isMeshed);
  const ids = new Set<string>();
  for (const spec of specs) {
    if (spec.mesh !== null && spec.mesh.mode !== 'off') ids.add(spec.mesh.id);
    else if (dials && spec.role !== 'inbound') ids.add(idOf(mesh, spec.role, spec.owner));
  }
  return [...ids];
}

/** Somebody dials a hop of it by mTLS. */
function isMeshed({ mtls, endpoints }: ServiceConfig): boolean {
  return mtls !== 'off' && endpoints.some(({ hop }) => hop !== null);
}

/** Who the listeners of a role are to the hops that they dial; null where none speaks mTLS. */
export function callerId(
  { mesh, services }: Config,
  { role, owner }: Pick<ListenerSpec, 'role' | 'owner'>,
): string | null {
  return services.some(isMeshed) ? idOf(mesh, role, owner) : null;
}

export function idOf({ trustDomain }: Mesh, role: Role, owner: string): string {
  return role === 'gateway' ? gatewayId(trustDomain, owner) : serviceId(trustDomain, owner);
}

/** Leaf first; Node links a root to itself. */
function chainOf(certificate: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  const seen = new Set<DetailedPeerCertificate>();
  for (
    let one: DetailedPeerCertificate | undefined = certificate;
    one?.raw !== undefined && !seen.has(one);
    one = one.issuerCertificate
  ) {
    seen.add(one);
    chain.push(new X509Certificate(one.raw));
  }
  return chain;
}

function peerOf(leaf: X509Certificate, { id, trustDomain, path }: SpiffeId): Peer {
  return {
    id,
    trustDomain,
    service: path.startsWith('service/') ? path.slice('service/'.length) : null,
    // Of an empty one Node says nothing, whatever its types say.
    subject: leaf.subject ?? '',
    fingerprint256: leaf.fingerprint256,
    verified: true,
    expiresAt: Date.parse(leaf.validTo),
  };
}

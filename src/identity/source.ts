// Where this process's certificates come from: one small interface in front of the local CA, files, a CA service and the SPIFFE Workload API.

/** An X.509-SVID (X509-SVID.md of the SPIFFE project) with its key. */
export interface Svid {
  /** SPIFFE id. */
  readonly id: string;
  /** PEM: the leaf, then its intermediates. */
  readonly cert: string;
  /** PEM, PKCS #8. */
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly expiresAt: number;
}

/**
 * PEM of the roots of each trust domain that is known, this one's included. Two roots of one domain are both trusted (rollover).
 * Never changed, only replaced by another map: what was derived from one stays good for it.
 */
export type TrustBundles = ReadonlyMap<string, string>;

export interface IdentitySource {
  /**
   * Makes sure that there is a certificate for each of these ids, and keeps them fresh from now on; ids asked for before stay.
   * Rejects with an Error that names the id and what to do. May be called again with further ids, at a reload.
   */
  need(ids: readonly string[]): Promise<void>;
  /** The current certificate, though it may have expired where none could be got since (see `warnings`); null: it was never needed. */
  svid(id: string): Svid | null;
  /** Empty before `need` has resolved for the first time. */
  bundles(): TrustBundles;
  /** Called after every change of a certificate or bundle, not before `need` has resolved for the first time. Returns how to stop. */
  onChange(listener: () => void): () => void;
  /** What may become a problem, for readiness, `check` and the log: a certificate that could not be renewed and when it expires. Empty: all is well. */
  warnings(): readonly string[];
  close(): void;
}

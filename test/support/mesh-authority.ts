// A trust domain under the test's control: its authority, certificates of every kind, and a source that the test rotates.

import { type Authority, issueSvid, makeIntermediate, makeRoot } from '../../src/identity/authority.ts';
import type { IdentitySource, Svid, TrustBundles } from '../../src/identity/source.ts';

export class TestAuthority {
  readonly trustDomain: string;
  root: Authority;
  issuer: Authority;
  /** PEM; more than one while a root is replaced. */
  roots: string;

  private constructor(trustDomain: string, root: Authority, issuer: Authority) {
    this.trustDomain = trustDomain;
    this.root = root;
    this.issuer = issuer;
    this.roots = root.certificate.toString();
  }

  static async make(trustDomain: string): Promise<TestAuthority> {
    const root = await makeRoot(trustDomain, { now: Date.now() });
    return new TestAuthority(trustDomain, root, await makeIntermediate(root, trustDomain, { now: Date.now() }));
  }

  async svid(id: string, lifeMs?: number): Promise<Svid> {
    return issueSvid(this.issuer, id, { now: Date.now(), lifeMs });
  }

  /** A new root beside the old one: both are trusted, certificates come from the new one. */
  async addRoot(): Promise<void> {
    this.root = await makeRoot(this.trustDomain, { now: Date.now() });
    this.issuer = await makeIntermediate(this.root, this.trustDomain, { now: Date.now() });
    this.roots += this.root.certificate.toString();
  }
}

/** Every process of a test mesh has one. */
export class TestSource implements IdentitySource {
  readonly #authority: TestAuthority;
  readonly #svids = new Map<string, Svid>();
  readonly #listeners = new Set<() => void>();
  #bundles: TrustBundles;
  closed = false;

  constructor(authority: TestAuthority, others: Readonly<Record<string, string>> = {}) {
    this.#authority = authority;
    this.#bundles = new Map([[authority.trustDomain, authority.roots], ...Object.entries(others)]);
  }

  async need(ids: readonly string[]): Promise<void> {
    for (const id of ids) if (!this.#svids.has(id)) this.#svids.set(id, await this.#authority.svid(id));
  }

  /** New certificates for everybody. */
  async rotate(): Promise<void> {
    for (const id of [...this.#svids.keys()]) this.#svids.set(id, await this.#authority.svid(id));
    this.#tell();
  }

  /** Trusts what the authority trusts now. */
  updateTrust(): void {
    this.#bundles = new Map([...this.#bundles, [this.#authority.trustDomain, this.#authority.roots]]);
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  svid(id: string): Svid | null {
    return this.#svids.get(id) ?? null;
  }

  bundles(): TrustBundles {
    return this.#bundles;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  warnings(): readonly string[] {
    return [];
  }

  close(): void {
    this.closed = true;
  }
}

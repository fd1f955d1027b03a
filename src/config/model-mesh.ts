// How hops and gateways know each other, and where their certificates come from.
/** How hops and gateways know each other. */
export interface Mesh {
  /** Of SPIFFE ids: `shop.internal`. */
  readonly trustDomain: string;
  readonly mtls: MtlsMode;
  /** Other trust domains whose peers are known; `ca` is the absolute path of a PEM file with their roots. */
  readonly aliases: readonly { readonly trustDomain: string; readonly ca: string }[];
  readonly identity: IdentityConfig;
}

/** `strict`: certificates both ways. `permissive`: plain requests are served too, and counted. `off`: plain HTTP. */
export type MtlsMode = 'strict' | 'permissive' | 'off';

/** Where certificates come from. Paths are absolute. */
export type IdentityConfig =
  /** A CA of this machine, made on first start. */
  | { readonly kind: 'builtin'; readonly dir: string }
  | { readonly kind: 'files'; readonly cert: string; readonly key: string; readonly ca: string }
  /** `selvedge ca serve`. `dir` keeps certificates over a restart; `token` null: only renewal with those. */
  | {
      readonly kind: 'ca';
      readonly url: string;
      readonly token: string | null;
      readonly trust: string;
      readonly dir: string;
    }
  /** Path of the unix socket of the SPIFFE Workload API. */
  | { readonly kind: 'spiffe'; readonly socket: string };

// Who this process is to a hop that it dials: one for each gateway and each service whose hop it runs, the same across reloads.
import type { ConnectionOptions } from 'node:tls';

export interface Caller {
  /** SPIFFE id. */
  readonly id: string;
  /** Grows when certificate or trust change: connections of before are not used for new requests. */
  readonly version: number;
  /**
   * Options of tls.connect to whoever is `expects` (SPIFFE id) and nobody else, with the certificate as it is now.
   * @throws Error when there is no certificate.
   */
  connectionOptions(expects: string): ConnectionOptions;
}

/** How a hop is dialled. */
export interface MeshDial {
  /** SPIFFE id of the service. */
  readonly expects: string;
  /** `permissive`: plain, where the hop does not speak TLS yet. */
  readonly mode: 'strict' | 'permissive';
}

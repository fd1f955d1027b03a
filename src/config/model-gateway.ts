// A gateway: what it listens on, with which limits, and whom it takes for its client.
import type { ErrorPage } from '../http/error-pages.ts';
import type { PluginOff, PluginUse } from './model-plugins.ts';
import type { Place } from './place.ts';

export interface Gateway {
  readonly name: string;
  readonly at: Place;
  readonly clientAddress: ClientAddress;
  readonly listeners: readonly Listener[];
  readonly errorPages: readonly ErrorPage[];
  readonly plugins: readonly PluginUse[];
}

/** How the client's address is found; see docs/config-reference.md, `clientAddress`. */
export interface ClientAddress {
  /** CIDRs whose forwarding headers are believed. */
  readonly trustedProxies: readonly string[];
  /** Lower-case header that carries the address list. */
  readonly header: string;
  /** How many trusted proxies stand in front; null: as many as `trustedProxies` matches. */
  readonly hops: number | null;
  /** Connections of `trustedProxies` begin with a PROXY header. */
  readonly proxyProtocol: boolean;
}

export interface Listener {
  /** Unique in its gateway. */
  readonly name: string;
  readonly at: Place;
  readonly host: string;
  readonly port: number;
  readonly tls: ListenerTls | null;
  readonly limits: Limits;
  /** After those of the gateway. */
  readonly plugins: readonly (PluginUse | PluginOff)[];
  /** Every request is sent to https, at this port; null: requests are served. */
  readonly redirect: { readonly port: number } | null;
}

export interface ListenerTls {
  readonly certificates: readonly { readonly cert: string; readonly key: string; readonly at: Place }[];
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  /** `ca` is a file path. */
  readonly clientCertificate: { readonly ca: string; readonly mode: 'require' | 'request' } | null;
}

/** Bounds of one listener. `Infinity` where a limit is off; a timeout of 0 is off. */
export interface Limits {
  readonly headerBytes: number;
  readonly headerCount: number;
  readonly urlBytes: number;
  readonly bodyBytes: number;
  readonly headerTimeoutMs: number;
  readonly bodyIdleTimeoutMs: number;
  /** Bytes a second after 5 s of grace; 0: off. */
  readonly bodyMinRate: number;
  readonly keepAliveTimeoutMs: number;
  readonly tlsHandshakeTimeoutMs: number;
  readonly connections: number;
  readonly connectionsPerClient: number;
}

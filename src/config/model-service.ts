// A service: its endpoints, how they are dialled, and the hop in front of them.
import type { OutlierPolicy } from '../policies/outlier-detection.ts';
import type {
  AdaptiveConcurrency,
  Connections,
  HealthCheckPolicy,
  LoadBalancing,
  Locality,
  RetryBudgetPolicy,
} from './model-balancing.ts';
import type { MtlsMode } from './model-mesh.ts';
import type { PluginUse } from './model-plugins.ts';
import type { Place } from './place.ts';

export interface ServiceConfig {
  readonly name: string;
  readonly at: Place;
  /** `tcp`: connections are passed on as they are, whatever is inside. */
  readonly protocol: 'http1' | 'tcp';
  readonly endpoints: readonly EndpointConfig[];
  /** Subset name → labels that an endpoint must carry. */
  readonly subsets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly tls: UpstreamTls | null;
  readonly internal: Hop | null;
  /** Between its hop and its callers: as the service says, else as the mesh does. */
  readonly mtls: MtlsMode;
  /** The inbound chain at the hop. */
  readonly plugins: readonly PluginUse[];
  readonly loadBalancing: LoadBalancing;
  readonly locality: Locality;
  /** Milliseconds in which a new or returned endpoint comes to its full weight; 0: at once. */
  readonly slowStartMs: number;
  readonly connections: Connections;
  /** Null: the limits of `connections` alone. */
  readonly concurrency: AdaptiveConcurrency | null;
  readonly healthCheck: HealthCheckPolicy | null;
  /** Null: off. */
  readonly outlierDetection: OutlierPolicy | null;
  readonly retryBudget: RetryBudgetPolicy;
}

export interface EndpointConfig {
  /** `host:port` of the application. */
  readonly address: string;
  /** `host:port` of the hop in front of it; peers dial this instead. */
  readonly hop: string | null;
  readonly weight: number;
  /** Null: not said. */
  readonly zone: string | null;
  /** 0 is used first; the next ones as those before them fail. */
  readonly priority: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly at: Place;
}

/** To endpoints that are dialled directly. File paths are absolute. */
export interface UpstreamTls {
  /** SNI and the name that is verified; null: the host of the endpoint. */
  readonly serverName: string | null;
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly verify: boolean;
}

/** The internal hop of one service. */
export interface Hop {
  readonly at: Place;
  readonly inbound: { readonly host: string; readonly port: number };
  readonly outbound: {
    readonly host: string;
    readonly port: number;
    /** Local ports that lead to one service whatever the Host header says. */
    readonly ports: readonly {
      readonly service: string;
      readonly host: string;
      readonly port: number;
      readonly at: Place;
    }[];
  } | null;
  /** Addresses of the local applications that this hop serves (`host:port`): every endpoint whose hop it is. */
  readonly apps: readonly string[];
}

// What stands between the life of a Selvedge (control.ts) and whoever serves: this process, or the workers that it supervises.
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { OptionSchemas } from '../config/secrets.ts';
import type { SeenTarget } from '../policies/seen-requests.ts';
import type { ServiceDescription } from '../upstream/service.ts';
import type { IdentityState } from './mesh-identity.ts';
import type { RolloutStore } from './rollouts.ts';
import type { RouteDescription } from './snapshot.ts';

/** Whether traffic is welcome. */
export interface Health {
  /** Why it is not; empty: it is. */
  readonly reasons: readonly string[];
  readonly warnings: readonly string[];
  /** Requests and upgraded connections under way. */
  readonly inFlight: number;
  /** Those that the supervisor has; absent: this process serves by itself. */
  readonly workers?: readonly WorkerDescription[];
}

export interface WorkerDescription {
  readonly worker: number;
  /** Null while it waits to be started again. */
  readonly pid: number | null;
  readonly state: 'starting' | 'serving' | 'ended';
  readonly restarts: number;
}

/** What the admin API asks of whoever serves. All of it is plain data: it travels between processes. */
export interface Answers {
  readonly health: Health;
  readonly routes: readonly RouteDescription[];
  readonly services: readonly ServiceDescription[];
  /** Null: no certificates are needed. */
  readonly identity: IdentityState | null;
  /** What policies under audit would have denied. */
  readonly seen: readonly SeenTarget[];
}

export interface Installed {
  readonly applied: boolean;
  readonly problems: readonly Problem[];
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Engine {
  /** What is in force; null before the first `install` that was applied. */
  readonly config: Config | null;
  /** Counts the configs that were put in force. */
  readonly revision: number;
  /** Requests and upgraded connections under way, as far as is known at once. */
  readonly inFlight: number;
  readonly rollouts: RolloutStore;
  optionSchemas(config: Config): Promise<OptionSchemas>;
  /** Puts the config in force, or leaves everything as it was. Rejects for defects only. */
  install(config: Config): Promise<Installed>;
  /** By listener key. */
  addresses(): Readonly<Record<string, Address>>;
  adminAddress(): Address | null;
  /** What `reloadCertificates` reads. */
  certificateFiles(): ReadonlySet<string>;
  /** What could not be read keeps its old certificate and is returned. */
  reloadCertificates(): Promise<readonly Problem[]>;
  ask<K extends keyof Answers>(about: K): Promise<Answers[K]>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** Accepts nothing any more and gives what is in flight `timeoutMs`; what is left then is for `close` to cut. */
  drain(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}

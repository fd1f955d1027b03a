// Puts the parts together: config source, runtime, admin server and plugins, for the library and for the command line alike.
import { type Logger, pino } from 'pino';
import { Registry } from 'prom-client';
import { openAdmin } from './admin/admin.ts';
import type { ConfigInput } from './config/define.ts';
import type { Mesh } from './config/model.ts';
import type { Problem } from './config/problem.ts';
import type { IdentitySource } from './identity/source.ts';
import { builtins } from './plugins/index.ts';
import { type CloseOptions, type ReloadOutcome, Runtime, type RuntimeState } from './runtime/control.ts';
import { stdoutLogger } from './runtime/process-log.ts';
import { rolesOf, selectionOf } from './runtime/roles.ts';
import { fileSource, inputSource } from './runtime/source.ts';
import { version } from './runtime/version.ts';
import type { OpenFleet } from './runtime/workers/count.ts';

export interface SelvedgeOptions {
  /** Path of a file or directory, or the config itself. */
  readonly config: string | ConfigInput;
  /** Which part of the config to run; default all of it. With one of the lists, only what is named. */
  readonly roles?: { readonly gateways?: readonly string[]; readonly internal?: readonly string[] };
  /**
   * What the process says: a pino logger; true (default): one JSON line each to stdout from level info; false: nothing.
   * The access log goes its own way: `telemetry.accessLog` of the config.
   */
  readonly logger?: Logger | boolean;
  /** Where metrics are registered; default a registry of its own. */
  readonly registry?: Registry;
  /** Environment for `${NAME}` in the config; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Folder that relative paths start from; default the process's. */
  readonly cwd?: string;
  /**
   * Certificates from elsewhere than `mesh.identity` can say: called with what the config says of the mesh, once for every config that
   * says something else.
   */
  readonly identity?: (mesh: Mesh) => Promise<IdentitySource>;
  /** Reload when a file of the config changes; default true for a path. Certificates count as files of the config. */
  readonly watch?: boolean;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Status {
  readonly state: RuntimeState;
  /** Of the config in force; 0 before the start. */
  readonly revision: number;
  readonly loadedAt: Date | null;
  /** Null while the last config that was tried is the one in force. */
  readonly lastRejected: { readonly at: Date; readonly reason: string; readonly problems: readonly Problem[] } | null;
  /** Requests and upgraded connections under way. */
  readonly inFlight: number;
}

export interface Selvedge {
  /**
   * Runs the config, or nothing at all.
   * Rejects with a ConfigError that carries every problem, a taken port included, or with a RoleError.
   */
  start(): Promise<void>;
  /**
   * Stops accepting, lets what is in flight end within `timeoutMs` (default: `drain.timeout` of the config) and closes
   * everything. `graceMs` (default 0) keeps serving for that long first, for a load balancer to notice `/readyz`.
   */
  close(options?: CloseOptions): Promise<void>;
  /** Reads the config again; `reason` is for the log. A config that is wrong is not applied, and the running one stays whole; never rejects for that. */
  reload(reason?: string): Promise<ReloadOutcome>;
  /** Every listener by its key (`gateway/public/http`, `inbound/orders`) with the address it is bound to. */
  addresses(): Readonly<Record<string, Address>>;
  /** Null without an admin server. */
  adminAddress(): Address | null;
  readonly status: Status;
  readonly registry: Registry;
}

/** @param openFleet for `workers` above 1; not given: such a config is refused */
export function assemble(options: SelvedgeOptions, openFleet?: OpenFleet): Selvedge {
  const { config, roles, env = process.env, cwd = process.cwd(), registry = new Registry() } = options;
  const running = version();
  const chosen = rolesOf(roles?.gateways, roles?.internal);
  const reading = { env, cwd, roles: selectionOf(chosen) };
  const runtime = new Runtime({
    source: typeof config === 'string' ? fileSource(config, reading) : inputSource(config, reading),
    roles: chosen,
    builtins,
    logger: loggerOf(options.logger ?? true),
    registry,
    version: running,
    watch: options.watch ?? typeof config === 'string',
    openIdentity: options.identity,
    openFleet,
    openAdmin: (inspected) => (admin) => {
      const { contentType } = registry;
      return openAdmin(admin, inspected, { contentType, metrics: () => inspected.metrics() }, running);
    },
  });
  return {
    start: () => runtime.start(),
    close: (closing) => runtime.close(closing),
    reload: (reason = 'asked') => runtime.reload(reason),
    addresses: () => runtime.addresses(),
    adminAddress: () => runtime.adminAddress(),
    get status() {
      const { state, revision, loadedAt, lastRejected, inFlight } = runtime;
      return { state, revision, loadedAt, lastRejected, inFlight };
    },
    registry,
  };
}

function loggerOf(logger: Logger | boolean): Logger {
  if (typeof logger !== 'boolean') return logger;
  return logger ? stdoutLogger() : pino({ level: 'silent' });
}

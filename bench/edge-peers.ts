// The edge job, told to each proxy in its own words: verify a token (RS256, issuer, audience, expiry), limit requests by client, give a
// request id, pass trace context on, write a JSON access log to a file, count, retry once, leave out an endpoint that fails.
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type EnvoyJob, findEnvoy, startEnvoy, typed } from './envoy.ts';
import { BACKEND_PORT } from './nginx.ts';
import type { Peer } from './peers.ts';
import { has, PORTS, PROXY_CORE, serve, versionOf } from './processes.ts';
import { startSelvedge, VERSION } from './selvedge.ts';

const ISSUER = 'https://id.example.com';
const AUDIENCE = 'shop';
const KEY_ID = 'bench';
/** Far beyond what the load makes: the limit is counted, and refuses nothing. */
const PER_MINUTE = 100_000_000;
/** Tokens that Envoy keeps in the variant with a cache; Selvedge's own default is as many. */
const CACHED = 5_000;

interface Keys {
  readonly pem: string;
  readonly jwks: string;
}

/** Writes the tokens and the wrk script that goes through them in turn. Returns the script's path and the keys that verify them. */
export function mintTokens(dir: string, count: number, key: KeyObject): string {
  const head = base64({ alg: 'RS256', typ: 'JWT', kid: KEY_ID });
  const expires = Math.floor(Date.now() / 1_000) + 24 * 3_600;
  const tokens = Array.from({ length: count }, (_, at) => {
    const claims = {
      iss: ISSUER,
      aud: AUDIENCE,
      exp: expires,
      iat: expires - 60,
      sub: `user-${at}`,
      scope: 'orders:read',
    };
    const signed = `${head}.${base64(claims)}`;
    return `${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`;
  });
  const list = join(dir, `tokens-${count}.txt`);
  writeFileSync(list, `${tokens.join('\n')}\n`);
  const script = join(dir, `tokens-${count}.lua`);
  writeFileSync(
    script,
    `local requests, at = {}, 0
function init(args)
  for token in io.lines("${list}") do
    requests[#requests + 1] = wrk.format("GET", "/", {
      ["Authorization"] = "Bearer " .. token,
      ["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    })
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
`,
  );
  return script;
}

export function makeKeys(): { readonly key: KeyObject; readonly keys: Keys } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: KEY_ID, alg: 'RS256', use: 'sig' };
  return {
    key: privateKey,
    keys: { pem: publicKey.export({ format: 'pem', type: 'spki' }) as string, jwks: JSON.stringify({ keys: [jwk] }) },
  };
}

/** Starts every peer that is installed, each in `peers` from its start; says on stderr which ones are not. */
export async function startEdges(dir: string, keys: Keys, peers: Peer[]): Promise<void> {
  const add = (name: string, port: number, version: string) => (child: ChildProcess) =>
    peers.push({ name, version, url: `http://127.0.0.1:${port}/`, child });
  const file = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  if (has('haproxy')) {
    const config = file('haproxy.cfg', HAPROXY(PORTS + 11, file('key.pem', keys.pem)));
    const version = versionOf('haproxy', '-v', /version ([\d.]+)/);
    const keep = add('haproxy', PORTS + 11, version);
    const log = `${dir}/haproxy.log`;
    await serve(['haproxy', '-db', '-f', config], { port: PORTS + 11, core: PROXY_CORE, log, keep });
  } else process.stderr.write('haproxy is not installed: skipped\n');
  const envoy = findEnvoy();
  if (envoy !== null) {
    for (const [name, port, cached] of [
      ['envoy', PORTS + 12, 0],
      ['envoy + its cache of tokens', PORTS + 13, CACHED],
    ] as const) {
      const job = ENVOY(port, keys.jwks, `${dir}/envoy-${port}.log`, cached);
      await startEnvoy(envoy, `${dir}/envoy-${port}.json`, job, add(name, port, envoy.version));
    }
  }
  const config = SELVEDGE(PORTS + 14, file('jwks.json', keys.jwks));
  const keep = add('selvedge', PORTS + 14, VERSION);
  await startSelvedge({ dir, name: 'selvedge', config, port: PORTS + 14, log: `${dir}/selvedge.log`, keep });
}

function base64(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

const HAPROXY = (port: number, pem: string): string => `global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
  retries 1
  retry-on conn-failure
frontend edge
  bind 127.0.0.1:${port}
  log global
  log-format '{"time":"%tr","id":"%ID","client":"%ci","method":"%HM","path":"%HPO","status":%ST,"bytes":%B,"duration":%Ta,"backend":"%b","server":"%s"}'
  option forwardfor
  unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto http
  http-response set-header x-request-id %[unique-id]
  stick-table type ip size 100k expire 60s store http_req_rate(60s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt ${PER_MINUTE} }
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"${pem}") -m int 1 }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.iss') -m str ${ISSUER} }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.aud') -m str ${AUDIENCE} }
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }
  default_backend app
backend app
  default-server observe layer7 error-limit 5 on-error mark-down check inter 30s
  server app 127.0.0.1:${BACKEND_PORT}
`;

const SELVEDGE = (port: number, jwks: string): object => ({
  version: 1,
  admin: { port: 0 },
  gateways: {
    bench: {
      listeners: [{ name: 'http', host: '127.0.0.1', port }],
      plugins: [
        { 'rate-limit': { max: PER_MINUTE, window: '1m' } },
        { jwt: { issuer: ISSUER, audience: AUDIENCE, keys: `\${file:${jwks}}`, algorithms: ['RS256'] } },
      ],
    },
  },
  services: { app: { endpoints: [`127.0.0.1:${BACKEND_PORT}`] } },
  routes: [{ name: 'app', to: 'app' }],
});

/** `cached`: verified tokens that it may keep. */
const ENVOY = (port: number, jwks: string, log: string, cached: number): EnvoyJob => {
  const bucket = { max_tokens: PER_MINUTE, tokens_per_fill: PER_MINUTE, fill_interval: '60s' };
  const always = { default_value: { numerator: 100, denominator: 'HUNDRED' } };
  const jwt = typed('extensions.filters.http.jwt_authn.v3.JwtAuthentication', {
    providers: {
      id: {
        issuer: ISSUER,
        audiences: [AUDIENCE],
        // The others pass the token on too.
        forward: true,
        local_jwks: { inline_string: jwks },
        ...(cached > 0 && { jwt_cache_config: { jwt_cache_size: cached } }),
      },
    },
    rules: [{ match: { prefix: '/' }, requires: { provider_name: 'id' } }],
  });
  const limit = typed('extensions.filters.http.local_ratelimit.v3.LocalRateLimit', {
    stat_prefix: 'limit',
    token_bucket: bucket,
    // The bucket of the client is enough.
    always_consume_default_token_bucket: false,
    filter_enabled: always,
    filter_enforced: always,
    descriptors: [{ entries: [{ key: 'remote_address' }], token_bucket: bucket }],
    rate_limits: [{ actions: [{ remote_address: {} }] }],
  });
  const filters = [
    { name: 'envoy.filters.http.local_ratelimit', typed_config: limit },
    { name: 'envoy.filters.http.jwt_authn', typed_config: jwt },
  ];
  return { port, upstream: BACKEND_PORT, log, filters };
};

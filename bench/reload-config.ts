// Configs of any size, of the kind that people write: forty services, a host for every twenty routes, and here and there a plugin, a retry, a header.

const SERVICES = 40;
const ROUTES_PER_HOST = 20;

/** `edition` changes with every edit: it is what the first route answers. */
export function largeConfig(routes: number, port: number, adminPort: number, backend: string, edition: number): string {
  const services = Array.from({ length: SERVICES }, (_, index) => serviceOf(index, backend));
  const others = Array.from({ length: routes - 2 }, (_, index) => routeOf(index));
  return `version: 1
admin: { port: ${adminPort} }
telemetry:
  accessLog: false
gateways:
  public:
    listeners:
      - { name: http, host: 127.0.0.1, port: ${port} }
services:
${services.join('')}
routes:
  - name: edition
    match: [{ path: { exact: /edition } }]
    respond: { body: "edition ${edition}" }
  - name: load
    match: [{ path: /load }]
    to: service-0
${others.join('')}`;
}

function serviceOf(index: number, backend: string): string {
  const check = index % 4 === 0 ? '' : '    outlierDetection: { consecutive5xx: 7 }\n';
  return `  service-${index}:
    endpoints:
      - { address: "${backend}", labels: { version: v1 } }
    subsets: { v1: { version: v1 } }
${check}`;
}

function routeOf(index: number): string {
  const host = `shop-${Math.floor(index / ROUTES_PER_HOST)}.example.com`;
  const methods = index % 3 === 0 ? ', methods: [GET, POST]' : '';
  const headers = index % 10 === 1 ? ', headers: { x-version: v2 }' : '';
  return `  - name: route-${index}
    hosts: [${host}]
    match:
      - { path: /api/v1/items-${index % ROUTES_PER_HOST}${methods}${headers} }
    to: service-${index % SERVICES}
${EXTRAS[index % EXTRAS.length](index)}`;
}

/** What one route in ten each says beyond where it leads. */
const EXTRAS: readonly ((index: number) => string)[] = [
  () => '    timeout: { request: 5s }\n',
  () => '    rewrite: { prefix: / }\n',
  () => '    retry: { attempts: 2, on: [connect-failure, reset, { status: [503] }], methods: [GET] }\n',
  () => '    plugins: [cors: { origins: ["https://www.example.com"] }]\n',
  () => '    requestHeaders: { set: { x-tenant: acme }, remove: [x-debug] }\n',
  () => '',
  (index) => `    plugins: [body-limit: { max: ${1 + (index % 3)}MiB }]\n`,
  () => '    responseHeaders: { set: { cache-control: no-store } }\n',
  () => '',
  () => '    bodyBytes: 1MiB\n',
];

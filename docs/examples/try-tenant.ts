// Runs the tenant plugin between a real client and a real service.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createSelvedge } from 'selvedge';

const service = createServer((request, response) => response.end(request.headers['x-tenant-verified']));
await new Promise<void>((listening) => service.listen(0, '127.0.0.1', listening));
const { port } = service.address() as { port: number };

const selvedge = await createSelvedge({
  cwd: import.meta.dirname,
  logger: false,
  config: {
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    gateways: { public: { listeners: [{ name: 'http', host: '127.0.0.1', port: 0 }] } },
    services: { web: { endpoints: [`127.0.0.1:${port}`] } },
    routes: [{ name: 'web', plugins: [{ './tenant.ts': { allow: ['acme'] } }], to: 'web' }],
  },
});
await selvedge.start();
const url = `http://127.0.0.1:${selvedge.addresses()['gateway/public/http'].port}/`;

const known = await fetch(url, { headers: { 'x-tenant': 'acme' } });
assert.equal(await known.text(), 'acme');

const stranger = await fetch(url, { headers: { 'x-tenant': 'evil', 'x-tenant-verified': 'acme' } });
assert.equal(stranger.status, 403);

await selvedge.close();
service.close();

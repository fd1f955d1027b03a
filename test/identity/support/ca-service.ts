// A CA service on loopback with real TLS, and a client that sends it whatever a test wants.
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';
import { issueSvid, makeKey } from '../../../src/identity/authority.ts';
import { openAuthorityDirectory } from '../../../src/identity/authority-directory.ts';
import type { AuditEntry } from '../../../src/identity/ca/audit.ts';
import { makeToken } from '../../../src/identity/ca/join-tokens.ts';
import { writeRoots } from '../../../src/identity/ca/live-authority.ts';
import { type CaService, type CaServiceOptions, startCaService } from '../../../src/identity/ca/service.ts';
import { makeRequest } from '../../../src/identity/signing-request.ts';
import type { Svid } from '../../../src/identity/source.ts';
import { listeningLog } from './log.ts';

export const DOMAIN = 'shop.internal';
export const ORDERS = `spiffe://${DOMAIN}/service/orders`;
export const CART = `spiffe://${DOMAIN}/service/cart`;

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly text: string;
  readonly body: Readonly<Record<string, string>>;
}

export interface Sent {
  readonly token?: string;
  readonly certificate?: Pick<Svid, 'cert' | 'key'>;
  /** Sent as it is. */
  readonly raw?: string;
  readonly body?: object;
}

export interface TestCaService {
  readonly dir: string;
  readonly url: string;
  readonly port: number;
  readonly audited: AuditEntry[];
  readonly log: ReturnType<typeof listeningLog>;
  /** PEM. */
  readonly roots: string;
  /** Path of a PEM file. */
  readonly trust: string;
  token(id: string, dates?: { readonly now?: number; readonly lifeMs?: number }): Promise<string>;
  /** As the CA itself would issue it, around any time. */
  svid(id: string, dates?: { readonly now?: number; readonly lifeMs?: number }): Promise<Svid>;
  send(method: string, path: string, sent?: Sent): Promise<Answer>;
  /** `POST /v1/svid` with a good request. */
  ask(sent: Sent): Promise<Answer>;
  stop(): Promise<void>;
  /** Again, on the same port and directory. */
  start(): Promise<void>;
}

export function temporaryDirectory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'selvedge-ca-service-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export async function makeCa(dir: string, now = Date.now()): Promise<void> {
  await writeRoots(dir, await openAuthorityDirectory(dir, DOMAIN, now));
}

export async function openTestCa(t: Test, options: Partial<CaServiceOptions> = {}): Promise<TestCaService> {
  const dir = options.dir ?? temporaryDirectory(t);
  if (options.dir === undefined) await makeCa(dir, Date.now() - 3_600_000);
  const audited: AuditEntry[] = [];
  const log = listeningLog();
  const base = { dir, host: '127.0.0.1', names: ['localhost', '127.0.0.1'], log };
  const audit = (entry: AuditEntry): void => void audited.push(entry);
  const start = (port: number): Promise<CaService> => startCaService({ ...base, port, audit, ...options });
  let service: CaService | null = await start(0);
  const { port } = service.address();
  const stop = async (): Promise<void> => {
    await service?.close();
    service = null;
  };
  t.teardown(stop);
  const url = `https://127.0.0.1:${port}`;
  const { bundle: roots } = await openAuthorityDirectory(dir, DOMAIN, Date.now(), false);
  const send = (method: string, path: string, sent: Sent = {}): Promise<Answer> =>
    sendTo(new URL(path, url), method, roots, sent);
  return {
    dir,
    url,
    port,
    audited,
    log,
    roots,
    trust: join(dir, 'ca.crt'),
    token: (id, { now = Date.now(), lifeMs = 60_000 } = {}) => makeToken(dir, id, { now, lifeMs }),
    async svid(id, { now = Date.now(), lifeMs } = {}) {
      return issueSvid((await openAuthorityDirectory(dir, DOMAIN, Date.now(), false)).issuer, id, { now, lifeMs });
    },
    send,
    ask: async (sent) => send('POST', '/v1/svid', { body: { csr: makeRequest(await makeKey()) }, ...sent }),
    stop,
    async start() {
      service = await start(port);
    },
  };
}

function sendTo(url: URL, method: string, ca: string, { token, certificate, raw, body }: Sent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const content = raw ?? (body === undefined ? '' : JSON.stringify(body));
    const headers: Record<string, string> = { 'content-length': String(Buffer.byteLength(content)) };
    if (content !== '') headers['content-type'] = 'application/json';
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    const { cert, key } = certificate ?? {};
    const outgoing = request(url, { method, agent: false, ca, cert, key, headers });
    outgoing.on('response', async (response) => {
      const answer = await text(response);
      const { statusCode = 0, headers } = response;
      resolve({ status: statusCode, headers, text: answer, body: JSON.parse(answer) as Record<string, string> });
    });
    outgoing.on('error', reject);
    outgoing.end(content);
  });
}

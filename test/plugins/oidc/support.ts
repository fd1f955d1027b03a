// An OpenID provider that does as it is told, and a browser that keeps cookies, for a chain without network.
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { LightMyRequestResponse } from 'fastify';
import type { Test } from 'tap';
import type { TestChain } from '../../support/chain.ts';
import { type JwksServer, jwkSet, jwksServer, seconds, signer, token } from '../jwt/support.ts';

export const SECRET = 'a secret of at least thirty-two bytes';
export const OTHER_SECRET = 'another secret of at least thirty-two bytes';
export const BASE = 'https://shop.example.com';
export const KEY = signer('ES256', 'op');

export interface TokenRequest {
  readonly body: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
}

export interface Op {
  readonly issuer: string;
  readonly server: JwksServer;
  /** What the token endpoint was asked, in order. */
  readonly asked: TokenRequest[];
  /** What was sent to the revocation endpoint. */
  readonly revoked: URLSearchParams[];
  /** Changes of the discovery document. */
  document: Record<string, unknown>;
  /** What the token endpoint answers; the nonce is that of the last login. */
  answer: (request: TokenRequest) => { status?: number; body: unknown } | Promise<{ status?: number; body: unknown }>;
  /** Down: every connection is broken off. */
  down: boolean;
  nonce: string;
  idToken(changes?: object, header?: object): string;
}

export async function openidProvider(t: Test): Promise<Op> {
  const server = await jwksServer(t, '');
  const issuer = server.origin;
  const op: Op = {
    issuer,
    server,
    asked: [],
    revoked: [],
    document: {},
    answer: () => ({ body: tokens(op.idToken()) }),
    down: false,
    nonce: '',
    idToken: (changes = {}, header = {}) =>
      token(KEY, { iss: issuer, aud: 'web', exp: seconds() + 300, nonce: op.nonce, ...changes }, header),
  };
  server.answer = async (req, res) => {
    if (op.down) return void req.destroy();
    if (req.url === '/jwks') return void res.end(jwkSet(KEY));
    if (req.url === '/.well-known/openid-configuration') {
      const document = {
        issuer,
        authorization_endpoint: `${issuer}/auth?tenant=1`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        ...op.document,
      };
      return void res.end(JSON.stringify(document));
    }
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    const body = new URLSearchParams(Buffer.concat(chunks).toString());
    if (req.url === '/revoke') {
      op.revoked.push(body);
      return void res.end();
    }
    op.asked.push({ body, headers: req.headers });
    const { status = 200, body: answer } = await op.answer(op.asked.at(-1) as TokenRequest);
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  };
  return op;
}

export function tokens(idToken: string | undefined, changes: object = {}) {
  return { access_token: 'access-1', token_type: 'Bearer', id_token: idToken, expires_in: 300, ...changes };
}

export function options(op: Op, changes: object = {}): Record<string, unknown> {
  return {
    issuer: op.issuer,
    clientId: 'web',
    clientSecret: 'client-secret',
    baseUrl: BASE,
    cookieSecret: SECRET,
    ...changes,
  };
}

export const NAVIGATION = { accept: 'text/html,application/xhtml+xml', 'sec-fetch-mode': 'navigate' };

/** Keeps what it is given, and sends all of it. */
export class Browser {
  readonly jar = new Map<string, string>();
  readonly #chain: TestChain;

  constructor(chain: TestChain) {
    this.#chain = chain;
  }

  get cookie(): string {
    return [...this.jar].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  async get(url: string, headers: object = NAVIGATION, method: 'GET' | 'POST' | 'HEAD' | 'PUT' = 'GET') {
    const cookie = this.jar.size === 0 ? {} : { cookie: this.cookie };
    const answer = await this.#chain.inject({ method, url, headers: { ...headers, ...cookie } });
    this.keep(answer);
    return answer;
  }

  keep(answer: LightMyRequestResponse): void {
    for (const line of setCookies(answer)) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) as RegExpExecArray;
      if (/; Max-Age=0$/.test(line)) this.jar.delete(name);
      else this.jar.set(name, value);
    }
  }

  /** Begins a login; what the provider is asked. */
  async begin(op: Op, url = '/'): Promise<URLSearchParams> {
    const answer = await this.get(url);
    const { searchParams } = new URL(String(answer.headers.location));
    op.nonce = searchParams.get('nonce') ?? '';
    return searchParams;
  }

  async logIn(op: Op, url = '/'): Promise<LightMyRequestResponse> {
    const asked = await this.begin(op, url);
    return this.get(callback({ code: 'code-1', state: asked.get('state') ?? '' }));
  }
}

export function callback(query: Record<string, string>): string {
  return `/oauth2/callback?${new URLSearchParams(query)}`;
}

export function setCookies(answer: LightMyRequestResponse): string[] {
  return [answer.headers['set-cookie'] ?? []].flat();
}

export function challengeOf(verifier: string): string {
  return createHash('sha256').update(verifier).digest('base64url');
}

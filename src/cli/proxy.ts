// `selvedge proxy :8080 http://localhost:3000`: a gateway in one line, without a file.
import type { ConfigInput } from '../config/define.ts';
import { type Command, UsageError } from './command.ts';

export const command: Command = {
  name: 'proxy',
  summary: 'Proxy one address to one service, without a config',
  help: `selvedge proxy [HOST]:PORT URL [--rewrite-host] [--admin PORT]

  HOST:PORT         where to listen; without HOST on every interface; port 0: any free one
  URL               where requests go: http://… or https://… (its certificate is verified); a path becomes a prefix

  --rewrite-host    send the host of URL as Host, not the client's: what public sites behind https expect
  --admin PORT      serve the admin API on 127.0.0.1:PORT; default none

selvedge proxy :8080 http://localhost:3000
selvedge proxy 127.0.0.1:8080 https://api.example.com --rewrite-host

Exit codes: 0 stopped by a signal, 2 wrong usage, 3 could not start.`,
  options: {
    'rewrite-host': { type: 'boolean' },
    admin: { type: 'string' },
  },
  async run({ values, positionals }, io) {
    const [listen, url, extra] = positionals;
    if (listen === undefined || url === undefined)
      throw new UsageError('proxy needs an address and a URL: selvedge proxy :8080 http://localhost:3000');
    if (extra !== undefined) throw new UsageError(`proxy takes no third argument "${extra}"`);
    const admin = values.admin === undefined ? null : portOf(String(values.admin));
    const { serve } = await import('./serve.ts');
    return serve(
      { config: proxyConfig(parseListen(listen), parseUpstream(url), values['rewrite-host'] === true, admin) },
      io,
    );
  },
};

interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `:8080`, `8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`. */
export function parseListen(written: string): Listen {
  const found = /^(?:\[([^\]]+)\]:|([^:[\]]*):)?(\d+)$/.exec(written);
  if (found === null) throw new UsageError(`"${written}" is no address to listen on: write :8080 or 127.0.0.1:8080`);
  return { host: found[1] ?? (found[2] || '0.0.0.0'), port: portOf(found[3]) };
}

export function parseUpstream(written: string): URL {
  const url = URL.canParse(written) ? new URL(written) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.hostname === '') {
    throw new UsageError(`"${written}" is no URL of a service: write http://localhost:3000 or https://api.example.com`);
  }
  if (url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') {
    throw new UsageError(`"${written}" may have a host, a port and a path, nothing else`);
  }
  return url;
}

/** What the one line means, written as a config. */
export function proxyConfig(
  listen: Listen,
  upstream: URL,
  rewriteHost: boolean,
  adminPort: number | null,
): ConfigInput {
  const secure = upstream.protocol === 'https:';
  const prefix = upstream.pathname.replace(/\/+$/, '');
  const rewrite = { ...(prefix === '' ? {} : { prefix }), ...(rewriteHost ? { host: upstream.host } : {}) };
  return {
    version: 1,
    admin: adminPort === null ? false : { host: '127.0.0.1', port: adminPort },
    gateways: { proxy: { listeners: [{ name: 'http', host: listen.host, port: listen.port }] } },
    services: {
      upstream: {
        endpoints: [`${upstream.hostname}:${upstream.port || (secure ? 443 : 80)}`],
        ...(secure ? { tls: true } : {}),
      },
    },
    routes: [
      { name: 'everything', to: [{ service: 'upstream' }], ...(Object.keys(rewrite).length > 0 ? { rewrite } : {}) },
    ],
  };
}

function portOf(written: string): number {
  const port = Number(written);
  if (!/^\d+$/.test(written) || port > 65_535) throw new UsageError(`"${written}" is no port: 0 to 65535`);
  return port;
}

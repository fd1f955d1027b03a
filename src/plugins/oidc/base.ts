// Where browsers see this gateway: chosen among what the config says, never made up from the Host header.
import type { Exchange } from '../../plugin.ts';
import { Cookies } from './cookies.ts';
import type { OidcOptions } from './options.ts';

export interface Base {
  readonly origin: string;
  readonly redirectUri: string;
  readonly cookies: Cookies;
}

export function basesOf({ baseUrl, callbackPath, cookie }: OidcOptions): (exchange: Exchange) => Base {
  const bases = [baseUrl].flat().map((written) => {
    const { origin, protocol, hostname, port } = new URL(written);
    const secure = cookie.secure ?? protocol === 'https:';
    const { name, domain = null, path, sameSite } = cookie;
    return {
      origin,
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port || (protocol === 'https:' ? '443' : '80'),
      defaultPort: protocol === 'https:' ? '443' : '80',
      redirectUri: `${origin}${callbackPath}`,
      cookies: new Cookies({ name, domain, path, sameSite, secure }),
    };
  });
  if (bases.length === 1) return () => bases[0];
  return ({ host, port }) =>
    bases.find((base) => base.host === host && base.port === (port ?? base.defaultPort)) ?? bases[0];
}

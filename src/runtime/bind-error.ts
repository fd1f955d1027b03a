// Why a listener could not start, in the words of whoever configured it.
import { formatHostPort } from '../http/address.ts';
import type { ListenerSpec } from './listener-spec.ts';

const CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is taken by another process',
  EACCES: 'the process may not use this port (ports below 1024 need a privilege)',
  EADDRNOTAVAIL: 'this machine has no such address',
  EINVAL: 'this machine has no such address',
  ENOTFOUND: 'the host name cannot be resolved',
};

/** `listener gateway/public/http cannot listen on 0.0.0.0:80: the process may not use this port …` */
export class BindError extends Error {
  override readonly name = 'BindError';
  /** Of the system (`EADDRINUSE`); undefined when a certificate is at fault. */
  readonly code: string | undefined;

  constructor(spec: ListenerSpec, cause: NodeJS.ErrnoException) {
    const why = CAUSES[cause.code ?? ''] ?? cause.message;
    super(`listener ${spec.key} cannot listen on ${formatHostPort(spec.host, spec.port)}: ${why}`, { cause });
    this.code = cause.code;
  }
}

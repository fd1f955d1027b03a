// How an endpoint is asked whether it is well: what the three ways have in common, and how their failures are named.
import type { TransportCode } from '../http1/transport-error.ts';

/** `detail`: a few words for logs and the admin API. */
export type ProbeDone = (healthy: boolean, detail: string) => void;

/** One way of asking one endpoint. Between two checks it may keep a connection. */
export interface Probe {
  /** Asks once; `done` follows at most once, and never after `abort` or `close`. Not to be called while one is under way. */
  begin(done: ProbeDone): void;
  /** Breaks off what is under way, with its connection. */
  abort(): void;
  /** For good; nothing stays open. */
  close(): void;
}

export const USER_AGENT = 'selvedge-health-check';

/** What is read of one answer. It is about status, so this is more than any sensible answer has. */
export const MAX_ANSWER_BYTES = 64 * 1024;

/** Of one detail, which may carry words of the endpoint or of a library. */
const MAX_DETAIL_LENGTH = 120;

const NAMES: Readonly<Record<TransportCode, string>> = {
  SLV_UPSTREAM_REFUSED: 'connection refused',
  SLV_CONNECT_TIMEOUT: 'connecting took too long',
  SLV_UPSTREAM_UNREACHABLE: 'host unreachable',
  SLV_UPSTREAM_DNS: 'name cannot be resolved',
  SLV_UPSTREAM_TLS: 'TLS failed',
  SLV_UPSTREAM_RESET: 'connection closed',
  SLV_UPSTREAM_INVALID: 'malformed response',
  SLV_UPSTREAM_HEADERS_TOO_LARGE: 'response head too large',
  SLV_UPSTREAM_INCOMPLETE: 'response broken off',
  SLV_POOL_FULL: 'no connection to spare',
};

/** The failure of a connection or exchange in a few words. */
export function failureDetail(error: Error): string {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  if (typeof code !== 'string' || !Object.hasOwn(NAMES, code)) return clip(error.message);
  const name = NAMES[code as TransportCode];
  // Which certificate or version is at fault is what the operator needs to know.
  const says = code === 'SLV_UPSTREAM_TLS' && cause instanceof Error && cause.message !== '';
  return says ? clip(`${name}: ${cause.message.trim()}`) : name;
}

function clip(text: string): string {
  return text.length <= MAX_DETAIL_LENGTH ? text : `${text.slice(0, MAX_DETAIL_LENGTH - 1)}…`;
}

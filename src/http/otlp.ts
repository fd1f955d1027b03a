// The address of an OTLP collector and the headers for it, as users write them.
import { validateHeaderName, validateHeaderValue } from 'node:http';

const SIGNAL_PATH = '/v1/traces';

/** `http://host:4318` stands for its `/v1/traces`. Null when it is no such address. */
export function tracesUrl(written: string): URL | null {
  const url = URL.canParse(written) ? new URL(written) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return null;
  // A password in a URL ends up in logs: headers are the place for it.
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return null;
  const path = url.pathname.replace(/\/+$/, '');
  url.pathname = path.endsWith(SIGNAL_PATH) ? path : `${path}${SIGNAL_PATH}`;
  return url;
}

export const TRACES_URL_EXPECTED =
  'an http or https URL without user, query and fragment, such as http://127.0.0.1:4318; "headers" has room for credentials';

/** Headers that the exporter writes itself. */
const OWN: ReadonlySet<string> = new Set(['content-type', 'content-length', 'transfer-encoding', 'host', 'connection']);

/** What is wrong with a header for the collector, without its value, which may be a secret; null: nothing. */
export function collectorHeaderProblem(name: string, value: string): string | null {
  if (OWN.has(name.toLowerCase())) return `"${name}" is set by the exporter itself`;
  try {
    validateHeaderName(name);
  } catch {
    return `"${name}" is not the name of a header`;
  }
  try {
    validateHeaderValue(name, value);
  } catch {
    return `the value of "${name}" has characters that no header may have`;
  }
  return null;
}

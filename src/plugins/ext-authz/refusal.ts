// What the client of a refused request is told: the words of the authorization service, or, where it said nothing, that nobody can tell.
import { type Code, SelvedgeError } from '../../plugin.ts';
import type { Outcome } from './check.ts';
import { answerHeaders, type NameTest, nameTest } from './header-names.ts';

/** Without them a refusal cannot be understood. */
const ALWAYS = [
  'cache-control',
  'content-encoding',
  'content-language',
  'content-type',
  'location',
  'retry-after',
  'www-authenticate',
];

export function refusalHeaders(further: readonly string[]): NameTest {
  return nameTest([...ALWAYS, ...further]);
}

/** The answer of the service is the answer to the client; without its body where that could not be had whole. */
export function refusal(
  { status, headers, body }: Extract<Outcome, { kind: 'denied' }>,
  passes: NameTest,
): SelvedgeError {
  const named = body === null ? (name: string) => passes(name) && !name.startsWith('content-') : passes;
  return new SelvedgeError(codeOf(status), `ext-authz: the authorization service answered ${status}`, {
    status,
    answer: {
      headers: { 'cache-control': 'no-store', ...answerHeaders(headers, named) },
      body: body ?? Buffer.alloc(0),
    },
  });
}

export function unavailable({ reason, error }: Extract<Outcome, { kind: 'failed' }>): SelvedgeError {
  const message = `ext-authz: the authorization service gave no answer (${reason}): ${error.message}`;
  return new SelvedgeError('SLV_AUTH_UNAVAILABLE', message, { cause: error });
}

/** By which logs, metrics and gRPC clients know it. A redirect leads to where credentials are to be had. */
function codeOf(status: number): Code {
  if (status === 401 || status < 400) return 'SLV_UNAUTHORIZED';
  return status === 429 ? 'SLV_RATE_LIMITED' : 'SLV_FORBIDDEN';
}

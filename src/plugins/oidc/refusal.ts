// Why somebody is not let in: exactly for log and metric, and for the person in front of the browser what they can do about it.
import { type Code, SelvedgeError } from '../../plugin.ts';

interface Answer {
  readonly code: Code;
  readonly detail?: string;
}

const LOGIN_AGAIN = 'This login is over, or was not begun in this browser. Open the page that you wanted again.';
const INVALID: Answer = { code: 'SLV_BAD_REQUEST', detail: LOGIN_AGAIN };
const AWAY: Answer = { code: 'SLV_AUTH_UNAVAILABLE', detail: 'Logging in does not work for the moment.' };
const UNPROVEN: Answer = { code: 'SLV_FORBIDDEN', detail: 'The answer of the login service does not hold.' };

const ANSWERS = {
  no_session: { code: 'SLV_UNAUTHORIZED' },
  session_invalid: { code: 'SLV_UNAUTHORIZED' },
  session_expired: { code: 'SLV_UNAUTHORIZED' },
  session_revoked: { code: 'SLV_UNAUTHORIZED' },
  login_loop: {
    code: 'SLV_UNAUTHORIZED',
    detail: 'You have logged in several times within a minute, and the browser does not keep or send the session.',
  },
  callback_malformed: INVALID,
  state_unknown: INVALID,
  response_issuer: INVALID,
  code_refused: INVALID,
  access_denied: { code: 'SLV_FORBIDDEN', detail: 'The login was not granted.' },
  provider_refused: AWAY,
  provider_unavailable: AWAY,
  provider_busy: AWAY,
  id_token: UNPROVEN,
  session_too_large: AWAY,
  scope: { code: 'SLV_FORBIDDEN' },
  claim: { code: 'SLV_FORBIDDEN' },
  cross_site_logout: { code: 'SLV_FORBIDDEN', detail: 'Log out from a page of this site.' },
  logout_method: { code: 'SLV_BAD_REQUEST', detail: 'Log out by POST or GET.' },
} as const satisfies Record<string, Answer>;

export type Reason = keyof typeof ANSWERS;

/** Seconds after which a provider that was away may be back. */
const RETRY_AFTER = 5;

/** Nothing in `message` is secret: it goes to the log. */
export class Refused extends Error {
  readonly reason: Reason;
  /** What exactly, where the reason is a general one: `id_token_nonce`. */
  readonly because: string;

  constructor(
    reason: Reason,
    message: string,
    { because = reason, cause }: { because?: string; cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
    this.because = because;
  }

  get unavailable(): boolean {
    return this.#answer.code === 'SLV_AUTH_UNAVAILABLE';
  }

  error(): SelvedgeError {
    const { code, detail } = this.#answer;
    return new SelvedgeError(code, `oidc: ${this.message}`, {
      detail,
      cause: this.cause,
      ...(this.unavailable ? { retryAfter: RETRY_AFTER } : {}),
      ...(code === 'SLV_UNAUTHORIZED' ? { headers: { 'www-authenticate': 'Cookie realm="selvedge"' } } : {}),
    });
  }

  get #answer(): Answer {
    return ANSWERS[this.reason];
  }
}

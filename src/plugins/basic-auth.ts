// Lets in who shows name and password of the list (RFC 7617). Only hashes of passwords are kept, and no password goes further than here.
import type { FastifyRequest } from 'fastify';
import {
  Counter,
  definePlugin,
  type Exchange,
  parseDurationMs,
  SelvedgeError,
  Type,
  UNIT_PATTERNS,
} from '../plugin.ts';
import { readList } from './credential-list.ts';
import { headerNameProblems } from './identity-header.ts';
import { type PasswordHash, PasswordVerifier, parsePasswordHash } from './password-hash.ts';
import { VerifiedCredentials } from './verified-credentials.ts';

const TOTAL = 'selvedge_basic_auth_total';
const MAX_USERS = 1_000;
const MAX_REMEMBER_MS = 3_600_000;
/** Visible ASCII without the colon, which ends it. */
const NAME = /^[\x21-\x39\x3b-\x7e]{1,64}$/;
const SCHEME = /^basic(?![!#$%&'*+.^_`|~0-9a-z-])/i;
/** Name, colon and password in base64, once: longer ones are not even decoded. */
const CREDENTIALS = /^basic +([A-Za-z0-9+/]{1,1024}={0,2}) *$/i;
const COLON = 0x3a;

interface User {
  readonly name: string;
  readonly password: PasswordHash;
}

interface Shown {
  readonly name: string;
  readonly password: Buffer;
  readonly whole: Buffer;
}

export default definePlugin(
  {
    name: 'basic-auth',
    options: Type.Object({
      users: Type.Array(Type.String(), {
        writeOnly: true,
        minItems: 1,
        description: 'The users: `name:scrypt-hash`. An item may have several, one a line, as a file has.',
      }),
      realm: Type.String({
        default: 'Restricted',
        pattern: '^[ !#-\\[\\]-~]{1,128}$',
        patternErrorMessage: 'must be up to 128 characters of ASCII without quotes and backslashes',
        description: 'What browsers show when they ask for a password.',
      }),
      rememberFor: Type.String({
        pattern: UNIT_PATTERNS.duration,
        patternErrorMessage: 'must be a duration such as 250ms, 10s or 5m',
        default: '5m',
        description:
          'How long a password that was right is not hashed again; at most 1h. `0s`: hash for every request.',
      }),
      optional: Type.Boolean({
        default: false,
        description: 'Let requests without a password pass too. A wrong one is refused all the same.',
      }),
      forward: Type.Boolean({ default: false, description: 'Send the `Authorization` header on to the service.' }),
      identityHeader: Type.Optional(
        Type.String({ description: 'Header that tells the service the name of the user. Default: none.' }),
      ),
    }),
    check: ({ users, rememberFor, identityHeader }) => [
      ...readUsers(users).problems,
      ...((parseDurationMs(rememberFor) ?? Number.POSITIVE_INFINITY) > MAX_REMEMBER_MS
        ? [{ path: 'rememberFor', message: 'must be at most 1h' }]
        : []),
      ...headerNameProblems('identityHeader', identityHeader, []),
    ],
    identityHeaders: ({ identityHeader }) => (identityHeader === undefined ? [] : [identityHeader.toLowerCase()]),
  },
  async (app, { users, realm, rememberFor, optional, forward, identityHeader }) => {
    const { owner } = app.chain;
    const toldIn = identityHeader?.toLowerCase();
    const listed = readUsers(users).credentials;
    const known = new Map(listed.map((user) => [user.name, user]));
    // With the list it goes: who was taken out of it is not remembered.
    const verified = new VerifiedCredentials(parseDurationMs(rememberFor) as number, () => performance.now());
    const verifier = app.shared('basic-auth verifier', () => new PasswordVerifier());
    const total = app.shared(
      'basic-auth metrics',
      () =>
        new Counter({
          name: TOTAL,
          help: 'Requests that were asked for a password, by what came of it',
          labelNames: ['owner', 'result'],
          registers: [app.metrics],
        }),
      () => app.metrics.removeSingleMetric(TOTAL),
    );

    app.addHook('onRequest', async (request) => {
      const { headers, raw, selvedge } = request;
      const line = headers.authorization;
      const isBasic = line !== undefined && SCHEME.test(line);
      const once = !repeated(raw.rawHeaders);
      // Before anything else is done, so that a password is not logged either when it is refused.
      if (isBasic && !forward) delete headers.authorization;
      if (!isBasic && once) {
        total.inc({ owner, result: optional ? 'anonymous' : 'missing' });
        if (optional) return;
        selvedge.because = 'basic_auth_missing';
        throw refusal('no name and password');
      }
      const shown = isBasic && once ? read(line) : null;
      if (shown === null || !(await isRight(shown, selvedge))) {
        total.inc({ owner, result: 'refused' });
        selvedge.because = 'basic_auth_refused';
        throw refusal(shown === null ? 'not one name and password' : 'an unknown name or a wrong password');
      }
      total.inc({ owner, result: 'accepted' });
      if (toldIn !== undefined) headers[toldIn] = shown.name;
      (request as FastifyRequest & { user?: unknown }).user ??= { sub: shown.name, auth: 'basic-auth' };
    });

    async function isRight(shown: Shown, selvedge: Exchange): Promise<boolean> {
      const id = verified.digest(shown.whole).toString('latin1');
      if (verified.has(id)) return true;
      try {
        return await verified.verify(id, () => hashAndCompare(shown));
      } catch (error) {
        total.inc({ owner, result: 'unverified' });
        selvedge.because = 'basic_auth_unverified';
        throw error;
      }
    }

    /** A name that nobody has costs what that of some user costs, each time the same, so that time does not tell who exists. */
    async function hashAndCompare({ name, password }: Shown): Promise<boolean> {
      if (listed.length === 0) return false;
      const user = known.get(name);
      const { password: hash } = user ?? listed[verified.digest(name).readUInt32BE(0) % listed.length];
      return (await verifier.verify(password, hash)) && user !== undefined;
    }

    const challenge = { 'www-authenticate': `Basic realm="${realm}", charset="UTF-8"` };
    function refusal(what: string): SelvedgeError {
      return new SelvedgeError('SLV_UNAUTHORIZED', `basic-auth: ${what}`, { headers: challenge });
    }
  },
);

/** Node keeps the first of several; who sends two means to be somebody else to somebody. */
function repeated(lines: readonly string[]): boolean {
  let count = 0;
  for (let i = 0; i < lines.length; i += 2)
    if (lines[i].length === 13 && lines[i].toLowerCase() === 'authorization') count++;
  return count > 1;
}

function read(line: string): Shown | null {
  const encoded = CREDENTIALS.exec(line)?.[1];
  if (encoded === undefined) return null;
  const whole = Buffer.from(encoded, 'base64');
  const colon = whole.indexOf(COLON);
  if (colon < 0) return null;
  return { name: whole.toString('latin1', 0, colon), password: whole.subarray(colon + 1), whole };
}

function readUsers(users: readonly string[]) {
  const names = new Set<string>();
  return readList<User>('users', users, MAX_USERS, (text) => {
    const colon = text.indexOf(':');
    if (colon < 0) return 'write a name, a colon and the scrypt hash of the password';
    const name = text.slice(0, colon);
    if (!NAME.test(name)) return 'a name has up to 64 characters of ASCII, without space and colon';
    if (names.has(name)) return `"${name}" is there twice`;
    const password = parsePasswordHash(text.slice(colon + 1));
    if (typeof password === 'string') return `what follows "${name}" ${password}`;
    names.add(name);
    return { name, password };
  });
}

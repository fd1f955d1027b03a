// `selvedge ca issue` and `selvedge ca revoke`: who may join, by a token or with files, and who may go on.
import { chmod, mkdir, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { issueSvid, LEAF_LIFE_MS } from '../identity/authority.ts';
import { openAuthorityDirectory } from '../identity/authority-directory.ts';
import { makeToken } from '../identity/ca/join-tokens.ts';
import { revoke } from '../identity/ca/revoked.ts';
import { trustDomainOf } from '../identity/ca/trust-domain.ts';
import { parseSpiffeId } from '../identity/spiffe-id.ts';
import { writePrivate } from '../private-files.ts';
import { DAY_MS, MINUTE_MS, spanOf } from './ca-options.ts';
import { type CommandInput, EXIT, type Io, UsageError } from './command.ts';

const TOKEN_LIFE = { least: MINUTE_MS, most: 30 * DAY_MS, usual: 60 * MINUTE_MS, written: '1m to 30d' };
const SVID_LIFE = { least: MINUTE_MS, most: LEAF_LIFE_MS, usual: LEAF_LIFE_MS, written: '1m to 24h' };

/** As `mesh.identity.files` calls them in the reference. */
const FILES = { cert: 'tls.crt', key: 'tls.key', ca: 'ca.crt' };

export async function issueFromCa(dir: string, values: CommandInput['values'], io: Io): Promise<number> {
  const toFiles = values.svid === true;
  for (const option of ['out', 'force'])
    if (!toFiles && values[option] !== undefined) throw new UsageError(`--${option} goes with --svid`);
  const lifeMs = spanOf('ttl', values.ttl, toFiles ? SVID_LIFE : TOKEN_LIFE);
  const { trustDomain, id } = await workloadIn(dir, 'issue', values);
  const now = Date.now();
  if (toFiles) return writeSvid({ dir, trustDomain, id, now, lifeMs }, values, io);
  const token = await makeToken(dir, id, { now, lifeMs });
  io.stdout.write(`${token}\n`);
  io.stderr.write(
    `a join token for ${id}: good once, until ${new Date(now + lifeMs).toISOString()}; it is not shown again\n`,
  );
  return EXIT.good;
}

export async function revokeInCa(dir: string, values: CommandInput['values'], io: Io): Promise<number> {
  const { id } = await workloadIn(dir, 'revoke', values);
  await revoke(dir, id, Date.now());
  io.stdout.write(`no certificate of ${id} that was issued until now renews any more
  each goes on until its end, within a day; join tokens are as good as before
`);
  return EXIT.good;
}

async function workloadIn(dir: string, action: string, { id }: CommandInput['values']) {
  if (typeof id !== 'string') throw new UsageError(`ca ${action} needs --id, such as service/orders`);
  const trustDomain = await trustDomainOf(dir);
  if (trustDomain === null) throw new Error(`there is no CA in ${dir}: selvedge ca init makes one`);
  return { trustDomain, id: workloadId(id, trustDomain) };
}

function workloadId(written: string, trustDomain: string): string {
  const id = parseSpiffeId(written.startsWith('spiffe:') ? written : `spiffe://${trustDomain}/${written}`);
  if (id === null || id.path === '')
    throw new UsageError(`--id: "${written}" names no workload: write service/orders or gateway/public`);
  if (id.trustDomain !== trustDomain)
    throw new UsageError(`--id: ${written} is not of the trust domain ${trustDomain}`);
  return id.id;
}

interface Wanted {
  readonly dir: string;
  readonly trustDomain: string;
  readonly id: string;
  readonly now: number;
  readonly lifeMs: number;
}

async function writeSvid(wanted: Wanted, values: CommandInput['values'], io: Io): Promise<number> {
  const { dir, trustDomain, id, now, lifeMs } = wanted;
  const out = resolve(io.cwd, String(values.out ?? '.'));
  await mkdir(out, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(out, name);
  for (const name of Object.values(FILES)) {
    if (values.force !== true && (await exists(path(name))))
      throw new Error(`${relative(io.cwd, path(name))} exists already: --force overwrites it`);
  }
  const { issuer, bundle } = await openAuthorityDirectory(dir, trustDomain, now, false);
  const svid = await issueSvid(issuer, id, { now, lifeMs });
  await writePrivate(path(FILES.key), svid.key);
  await writePrivate(path(FILES.cert), svid.cert);
  await writePrivate(path(FILES.ca), bundle);
  for (const name of [FILES.cert, FILES.ca]) await chmod(path(name), 0o644);
  io.stderr.write(
    `wrote ${Object.values(FILES).join(', ')} of ${id} to ${relative(io.cwd, out) || '.'}, until ${new Date(svid.expiresAt).toISOString()}; nothing renews them\n`,
  );
  return EXIT.good;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

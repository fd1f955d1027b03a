// `selvedge ca init` and `selvedge ca roll`: how the root of a CA begins, and how another one takes its place.
import { join, relative } from 'node:path';
import { openAuthorityDirectory, rollRoot } from '../identity/authority-directory.ts';
import { ROOTS_FILE, writeRoots } from '../identity/ca/live-authority.ts';
import { trustDomainOf } from '../identity/ca/trust-domain.ts';
import { isTrustDomain } from '../identity/spiffe-id.ts';
import { type CommandInput, EXIT, type Io, UsageError } from './command.ts';

export async function initCa(dir: string, values: CommandInput['values'], io: Io): Promise<number> {
  const trustDomain = values['trust-domain'];
  if (typeof trustDomain !== 'string') throw new UsageError('ca init needs --trust-domain, such as shop.internal');
  if (!isTrustDomain(trustDomain))
    throw new UsageError(`"${trustDomain}" is no trust domain: lower-case letters, digits, dots, dashes, underscores`);
  const there = await trustDomainOf(dir);
  if (there !== null) throw new Error(`${dir} has the CA of ${there} already: nothing was changed`);
  const state = await openAuthorityDirectory(dir, trustDomain, Date.now());
  await writeRoots(dir, state);
  const shown = relative(io.cwd, dir) || '.';
  const option = shown === join('.selvedge', 'ca') ? '' : ` --dir ${shown}`;
  const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
  io.stdout.write(`made the CA of ${trustDomain} in ${shown}
  root.pem          the root with its key, until ${day(state.root.facts.notAfter)}; root and intermediate go nowhere else
  intermediate.pem  what issues certificates, with its key, until ${day(state.issuer.facts.notAfter)}
  ${ROOTS_FILE}            the root without its key, for every machine: mesh.identity.ca.trust
next:
  selvedge ca serve${option} --san ca.${trustDomain}
  selvedge ca issue${option} --id service/NAME
`);
  return EXIT.good;
}

export async function rollCa(dir: string, _values: CommandInput['values'], io: Io): Promise<number> {
  const trustDomain = await trustDomainOf(dir);
  if (trustDomain === null) throw new Error(`there is no CA in ${dir}`);
  const now = Date.now();
  if (!(await rollRoot(dir, trustDomain, now)))
    throw new Error(`the root of ${trustDomain} is being replaced already: nothing was changed`);
  await writeRoots(dir, await openAuthorityDirectory(dir, trustDomain, now, false));
  io.stdout.write(`a second root of ${trustDomain} is trusted from now on, and issues from this time tomorrow
  running workloads hear of it from the CA service; hand out ${join(relative(io.cwd, dir), ROOTS_FILE)} to those that start later
  the old root leaves a day after that
`);
  return EXIT.good;
}

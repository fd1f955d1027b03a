// Resolves what holds between hops: names, files and sockets, each judged at its place.
import { resolve } from 'node:path';
import { type Clock, checkAuthorities, checkPair } from './certificates.ts';
import type { CompleteConfig } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { IdentityConfig, Mesh } from './model.ts';

type MeshInput = NonNullable<CompleteConfig['mesh']>;

/** Of this machine's own state, so it starts from where the process runs, not from where the config lies. */
const DEFAULT_DIR = '.selvedge/identity';

export function resolveMesh(mesh: Cursor<MeshInput>, cwd: string, clock: Clock): Mesh {
  const trustDomain = mesh.at('trustDomain').filled();
  return {
    trustDomain: trustDomain.value,
    mtls: mesh.at('mtls').filled().value,
    aliases: resolveAliases(mesh, trustDomain.value, clock),
    identity: resolveIdentity(mesh.at('identity').given(), cwd, clock),
  };
}

function resolveAliases(mesh: Cursor<MeshInput>, own: string, clock: Clock): Mesh['aliases'] {
  const aliases = (mesh.at('trustDomainAliases') as unknown as Cursor<Record<string, string>>).entries();
  return aliases.map(([trustDomain, ca]) => {
    if (!/^[a-z0-9._-]{1,255}$/.test(trustDomain))
      ca.error(`"${trustDomain}" is not a trust domain, such as partner.internal`);
    if (trustDomain === own) ca.error('is this mesh itself; its roots come from "identity"');
    return { trustDomain, ca: checkAuthorities(ca, clock) };
  });
}

type IdentityInput = NonNullable<MeshInput['identity']>;

function resolveIdentity(identity: Cursor<IdentityInput> | null, cwd: string, clock: Clock): IdentityConfig {
  const builtin: IdentityConfig = { kind: 'builtin', dir: resolve(cwd, DEFAULT_DIR) };
  if (identity === null) return builtin;
  const kinds = (['builtin', 'files', 'ca', 'spiffe'] as const).filter((kind) => identity.at(kind).given() !== null);
  if (kinds.length !== 1) {
    identity.error('needs exactly one of "builtin", "files", "ca" and "spiffe"');
    return builtin;
  }
  const given = identity.at('builtin').given();
  if (given !== null) {
    const dir = given.at('dir').given();
    return { kind: 'builtin', dir: dir === null ? resolve(cwd, DEFAULT_DIR) : resolve(dir.dir, dir.value) };
  }
  const files = identity.at('files').given();
  if (files !== null) {
    return {
      kind: 'files',
      ...checkPair(files.at('cert'), files.at('key'), clock),
      ca: checkAuthorities(files.at('ca'), clock),
    };
  }
  const spiffe = identity.at('spiffe').given();
  if (spiffe !== null) return { kind: 'spiffe', socket: socketPath(spiffe.at('socket')) };
  return resolveCa(identity.at('ca').filled(), cwd, clock);
}

function resolveCa(ca: Cursor<NonNullable<IdentityInput['ca']>>, cwd: string, clock: Clock): IdentityConfig {
  const url = ca.at('url');
  if (!URL.canParse(url.value) || new URL(url.value).protocol !== 'https:')
    url.error(`"${url.value}" is not an https URL, such as https://ca.internal:9443`);
  const dir = ca.at('dir').given();
  return {
    kind: 'ca',
    url: url.value,
    token: ca.value.token || null,
    trust: checkAuthorities(ca.at('trust'), clock),
    dir: dir === null ? resolve(cwd, DEFAULT_DIR) : resolve(dir.dir, dir.value),
  };
}

/** `unix:///run/x.sock`, `unix:/run/x.sock` or the path alone. */
function socketPath(socket: Cursor<string>): string {
  const path = socket.value.replace(/^unix:(?:\/\/(?=\/))?/, '');
  if (!path.startsWith('/'))
    socket.error(`"${socket.value}" is not a unix socket, such as unix:///run/spire/agent.sock`);
  return path;
}

// Certificates by the SPIFFE Workload API: an agent on this machine (SPIRE's, or another) knows the workload and sends what is its own.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { backoffMs } from './clock.ts';
import { type IdentityDeps, withDefaults } from './deps.ts';
import { expiryWarning } from './expiry.ts';
import { makeListeners } from './listeners.ts';
import { checkedSvid } from './loaded-svid.ts';
import type { IdentitySource, Svid, TrustBundles } from './source.ts';
import { parseSpiffeId } from './spiffe-id.ts';
import { certificatesPem, known } from './trust.ts';
import { readSvids, type WorkloadSvid } from './workload-message.ts';
import { openWorkloadStream } from './workload-stream.ts';

/** At a start the agent may not be there yet, or not know this workload yet. */
const START_WAIT_MS = 30_000;

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

/** While somebody waits for a certificate: what is registered at a SPIRE server is known to its agents some 10 s later. */
const LONGEST_RETRY_OF_WAITING_MS = 4_000;

/** How often expiry is looked at. */
const CHECK_MS = 60_000;

interface Received {
  readonly svids: ReadonlyMap<string, Svid>;
  /** What is wrong with the others, by id. */
  readonly faults: ReadonlyMap<string, string>;
  readonly bundles: TrustBundles;
}

export function spiffeSource({ socket }: { readonly socket: string }, given: IdentityDeps): IdentitySource {
  const { log, clock, random } = withDefaults(given);
  const api = `the SPIFFE Workload API at ${socket}`;
  const listeners = makeListeners((error) => log.warn(`a user of certificates has failed: ${error.message}`));
  /** Bounded by the roles of the config. */
  const needed = new Set<string>();
  const waiting = new Set<() => void>();
  /** Of ids that are not sent any more the last one stays: it ends by itself, soon. */
  let svids: ReadonlyMap<string, Svid> = new Map();
  let sent: ReadonlyMap<string, Svid> = new Map();
  let faults: ReadonlyMap<string, string> = new Map();
  let bundles: TrustBundles = new Map();
  let failures = 0;
  /** Why the last call has ended; null: one is under way and has brought something. */
  let reason: string | null = null;
  let closeStream = (): void => {};
  let cancelRetry = (): void => {};
  let cancelCheck = (): void => {};
  let told = '';
  let opened = false;
  let closed = false;

  function open(): void {
    opened = true;
    closeStream = openWorkloadStream(socket, { message: received, ended });
  }

  function received(message: Buffer): string | null {
    const found = readReceived(message, clock.now());
    if (typeof found === 'string') return found;
    if (failures > 0) log.info(`${api} answers again`);
    failures = 0;
    reason = null;
    const before = { svids, faults, bundles };
    sent = found.svids;
    faults = found.faults;
    for (const id of needed) {
      const fault = faults.get(id);
      if (fault !== undefined && fault !== before.faults.get(id)) log.warn(`${api}: ${fault}`);
    }
    svids = new Map([...[...svids].filter(([id]) => needed.has(id)), ...found.svids]);
    if (!sameBundles(bundles, found.bundles)) bundles = found.bundles;
    for (const look of waiting) look();
    // Agents send everything again at each change of anything.
    const changed = [...needed].some((id) => svids.get(id)?.cert !== before.svids.get(id)?.cert);
    if (changed || bundles !== before.bundles) listeners.tell();
    return null;
  }

  function ended(why: string): void {
    if (closed) return;
    failures += 1;
    if (why !== reason) log.warn(`${api}: ${why}`);
    reason = why;
    const longest = waiting.size > 0 ? LONGEST_RETRY_OF_WAITING_MS : LONGEST_RETRY_MS;
    cancelRetry = clock.after(backoffMs(failures, FIRST_RETRY_MS, longest, random), open);
  }

  function missing(ids: Iterable<string>): string[] {
    return [...ids].filter((id) => (sent.get(id)?.expiresAt ?? 0) <= clock.now());
  }

  async function need(ids: readonly string[]): Promise<void> {
    if (!opened) open();
    await arrival(ids);
    for (const id of ids) needed.add(id);
    listeners.open();
    checkLater();
  }

  function arrival(ids: readonly string[]): Promise<void> {
    if (missing(ids).length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      // The clock keeps no process alive, and between two calls nothing else would.
      const awake = setInterval(() => undefined, START_WAIT_MS);
      const done = (): void => {
        waiting.delete(look);
        clearInterval(awake);
        cancel();
      };
      const look = (): void => {
        if (!closed && missing(ids).length > 0) return;
        done();
        if (closed) reject(new Error('the source of certificates is closed'));
        else resolve();
      };
      const cancel = clock.after(START_WAIT_MS, () => {
        done();
        reject(new Error(absence(missing(ids))));
      });
      waiting.add(look);
    });
  }

  function absence(ids: readonly string[]): string {
    const names = ids.join(', ');
    const fault = ids.map((id) => faults.get(id)).find((one) => one !== undefined);
    if (fault !== undefined) return `${api} gives no certificate for ${names}: ${fault}`;
    if (sent.size === 0) return `${api} gives no certificate for ${names}: ${reason ?? 'it did not answer'}`;
    return `${api} gives no certificate for ${names}, only for ${[...sent.keys()].join(', ')}: register this process for it`;
  }

  function warnings(): readonly string[] {
    const now = clock.now();
    return [...needed].flatMap((id) => {
      const svid = svids.get(id);
      if (svid === undefined) return [];
      const ends = `expires at ${new Date(svid.expiresAt).toISOString()}`;
      const late = expiryWarning(svid, 'it', now);
      const why = reason ?? faults.get(id);
      if (why !== undefined) return [`${api}: ${why}; ${late ?? `the certificate of ${id} ${ends}`}`];
      if (!sent.has(id)) return [`${api} does not send the certificate of ${id} any more; ${late ?? `it ${ends}`}`];
      return expiryWarning(svid, api, now) ?? [];
    });
  }

  function checkLater(): void {
    cancelCheck();
    cancelCheck = clock.after(CHECK_MS, () => {
      const now = warnings().join('\n');
      if (now !== told && now !== '') for (const warning of warnings()) log.warn(warning);
      told = now;
      checkLater();
    });
  }

  return {
    need,
    svid: (id) => (needed.has(id) ? (svids.get(id) ?? null) : null),
    bundles: () => bundles,
    onChange: listeners.add,
    warnings,
    close() {
      closed = true;
      closeStream();
      cancelRetry();
      cancelCheck();
      for (const look of [...waiting]) look();
      listeners.close();
    },
  };
}

/** What is wrong with it, in place of a message that cannot be used. */
function readReceived(message: Buffer, now: number): Received | string {
  const response = readSvids(message);
  if (response === null) return 'it sent a malformed message';
  const svids = new Map<string, Svid>();
  const faults = new Map<string, string>();
  const bundles = new Map<string, string>();
  try {
    for (const [name, roots] of response.federated) if (roots.length > 0) bundles.set(domainOf(name), rootsPem(roots));
  } catch (error) {
    return unusable(error);
  }
  for (const one of response.svids) {
    // Where two have one id, the first is the default.
    if (svids.has(one.id)) continue;
    try {
      const { trustDomain, svid } = readOne(one, now);
      bundles.set(trustDomain, rootsPem(one.roots));
      svids.set(svid.id, svid);
    } catch (error) {
      faults.set(one.id, unusable(error));
    }
  }
  for (const id of svids.keys()) faults.delete(id);
  // One that is of no use, such as one that ended while the agent's server was away, spoils no other.
  const [fault] = faults.values();
  return svids.size === 0 && fault !== undefined ? fault : { svids, faults, bundles };
}

function unusable(error: unknown): string {
  return `it sent what cannot be used: ${(error as Error).message}`;
}

function readOne(one: WorkloadSvid, now: number): { readonly trustDomain: string; readonly svid: Svid } {
  const trustDomain = domainOf(one.id);
  try {
    const chain = one.certificates.map((der) => known(new X509Certificate(der)));
    const key = createPrivateKey({ key: one.key, format: 'der', type: 'pkcs8' });
    const svid = checkedSvid(chain, key, trustDomain, rootsPem(one.roots), now);
    if (svid.id !== one.id) throw new Error(`its certificate is that of ${svid.id}`);
    return { trustDomain, svid };
  } catch (error) {
    throw new Error(`${one.id}: ${(error as Error).message}`, { cause: error });
  }
}

function domainOf(id: string): string {
  const parsed = parseSpiffeId(id);
  if (parsed === null) throw new Error(`"${id.slice(0, 100)}" is no SPIFFE id`);
  return parsed.trustDomain;
}

function rootsPem(roots: readonly Buffer[]): string {
  return certificatesPem(roots.map((der) => known(new X509Certificate(der))));
}

function sameBundles(a: TrustBundles, b: TrustBundles): boolean {
  return a.size === b.size && [...a].every(([trustDomain, roots]) => b.get(trustDomain) === roots);
}

// A CA service from its start to its end: the directory, its own certificate by name and address, and the server in front.
import { createPublicKey } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { issueForHosts, keyPem, LEAF_LIFE_MS, makeKey } from '../authority.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { IdentityLog } from '../deps.ts';
import { startRotation } from '../rotation.ts';
import { buildCaApp, CA_LIMITS, type CaLimits } from './app.ts';
import type { Audit } from './audit.ts';
import { openLiveAuthority } from './live-authority.ts';
import { trustDomainOf } from './trust-domain.ts';

export interface CaServiceOptions {
  readonly dir: string;
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Names and addresses that clients know the service by; at least one. */
  readonly names: readonly string[];
  readonly log: IdentityLog;
  readonly audit: Audit;
  /** Of the certificates that it issues; default a day, which is also the longest. */
  readonly lifeMs?: number;
  readonly limits?: CaLimits;
  readonly requestTimeoutMs?: number;
  readonly clock?: Clock;
  /** 0 to 1. */
  readonly random?: () => number;
}

export interface CaService {
  readonly trustDomain: string;
  address(): { readonly host: string; readonly port: number };
  /** Lets requests in flight end. */
  close(): Promise<void>;
}

/** How the log calls the service's own certificate. */
const OWN = 'the CA service';

/** @throws Error for a directory without a CA or with a broken one, and the system's error when it cannot listen */
export async function startCaService(options: CaServiceOptions): Promise<CaService> {
  const { dir, names, log, clock = systemClock, random = Math.random } = options;
  const trustDomain = await trustDomainOf(dir);
  if (trustDomain === null) throw new Error(`there is no CA in ${dir}: selvedge ca init makes one`);
  const authority = await openLiveAuthority(dir, trustDomain, { clock, log, onChange: () => rotation.renewAll() });
  const rotation = startRotation({
    async issue() {
      const key = await makeKey();
      const issued = issueForHosts(authority.state().issuer, names, createPublicKey(key), { now: clock.now() });
      return { id: OWN, key: keyPem(key), ...issued };
    },
    // Connections that are open keep theirs.
    onChange: () => app?.server.setSecureContext(tls()),
    clock,
    random,
    log,
  });
  const tls = () => {
    const own = rotation.svid(OWN);
    return { cert: own?.cert, key: own?.key, ca: authority.state().bundle, minVersion: 'TLSv1.2' } as const;
  };
  const stop = (): void => {
    authority.close();
    rotation.close();
  };
  let app: ReturnType<typeof buildCaApp> | null = null;
  try {
    await rotation.need([OWN]);
    app = buildCaApp(tls(), {
      dir,
      authority,
      clock,
      log,
      audit: options.audit,
      lifeMs: Math.min(LEAF_LIFE_MS, options.lifeMs ?? LEAF_LIFE_MS),
      limits: options.limits ?? CA_LIMITS,
      requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
    });
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    stop();
    await app?.close();
    throw error;
  }
  const listening = app;
  return {
    trustDomain,
    address() {
      const { address, port } = listening.server.address() as AddressInfo;
      return { host: address, port };
    },
    async close() {
      stop();
      await listening.close();
    },
  };
}

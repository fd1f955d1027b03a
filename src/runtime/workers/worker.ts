// A worker's end: it serves what its supervisor tells it, says how it is, and ends when it is told or when nobody is there to tell it.
import type { Config } from '../../config/model.ts';
import type { Problem } from '../../config/problem.ts';
import { setProcessSecret } from '../../process-secret.ts';
import type { Answers } from '../engine.ts';
import { Installation, type InstallationOptions, type PreparedConfig } from '../installation.ts';
import type { Roles } from '../roles.ts';
import { addressOf, type Handle, Share } from './balance.ts';
import { CentralClient } from './central.ts';
import { Channel, type Wire } from './channel.ts';
import { IdentityClient, type IdentitySupply } from './identity.ts';

export interface WorkerOptions extends Pick<InstallationOptions, 'builtins' | 'logger' | 'registry'> {
  readonly wire: Wire & { once(event: 'disconnect', listener: () => void): unknown };
}

/** What a worker is told before anything else. */
export interface Beginning {
  readonly roles: Roles;
  readonly secret: Uint8Array;
}

/** Resolves when it has ended: closed by its supervisor, or drained because that is gone. */
export function serveAsWorker({ wire, ...options }: WorkerOptions): Promise<void> {
  let installation: Installation | null = null;
  let prepared: PreparedConfig | null = null;
  let ended: () => void = () => {};
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const running = (): Installation => {
    if (installation === null) throw new Error('nothing has begun');
    return installation;
  };

  const channel = new Channel(wire, {
    begin({ roles, secret }: Beginning) {
      setProcessSecret(Buffer.from(secret));
      installation = new Installation({
        ...options,
        roles,
        central,
        openIdentity: identity.open,
        openAdmin: () => Promise.reject(new Error('the admin server is the supervisor’s')),
        place: async ({ key, host, port }) => {
          const handle = await channel.ask<Handle>('socket', { key, host, port });
          return { where: handle as object, listening: () => share.opened(addressOf({ key, host, port }), handle) };
        },
      });
    },
    connection: (at: string, client: Handle) => share.handed(at, client),
    fewest: (count: number) => share.fewest(count),
    async prepare(config: Config): Promise<readonly Problem[]> {
      prepared = await running().prepare(config);
      return prepared.problems;
    },
    commit() {
      prepared?.commit();
      prepared = null;
    },
    async abandon() {
      await prepared?.abandon();
      prepared = null;
    },
    ask: (about: keyof Answers) => running().ask(about),
    certificates: () => running().reloadCertificates(),
    metrics: () => options.registry.getMetricsAsJSON(),
    pulse: () => ({ inFlight: running().inFlight }),
    identity: (supply: IdentitySupply) => identity.supplied(supply),
    central: (answers: Parameters<CentralClient['answered']>[0]) => central.answered(answers),
    drain: (timeoutMs: number) => running().drain(timeoutMs),
    close: () => void close(),
  });
  const central = new CentralClient(channel);
  const identity = new IdentityClient(channel);
  const share = new Share(channel, () => {
    let open = 0;
    for (const count of installation?.listeners.connections().values() ?? []) open += count;
    return open;
  });

  async function close(): Promise<void> {
    share.close();
    await prepared?.abandon();
    await installation?.close();
    ended();
  }

  wire.once('disconnect', () => {
    channel.close();
    central.close();
    share.alone();
    void drainAlone();
  });

  async function drainAlone(): Promise<void> {
    options.logger.error('the supervisor is gone: draining');
    await installation?.drain(installation.config?.drain.timeoutMs ?? 0);
    await close();
  }

  return end;
}

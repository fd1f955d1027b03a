// `selvedge ca serve`: the CA service as a process, from its options to its exit.
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Registry } from 'prom-client';
import { formatHostPort, parseHost, parseHostPort } from '../http/address.ts';
import { LEAF_LIFE_MS } from '../identity/authority.ts';
import { auditLine } from '../identity/ca/audit.ts';
import { startCaService } from '../identity/ca/service.ts';
import { openLines } from '../lines/line-writer.ts';
import { openProcessLog } from '../runtime/process-log.ts';
import { surviveUnhandledErrors, untilStopped } from '../runtime/signals.ts';
import { spanOf } from './ca-options.ts';
import { type CommandInput, type Io, UsageError } from './command.ts';

const DEFAULT_LISTEN = '0.0.0.0:9443';

/** Seconds are for trying out rotation: a CA that is away for a third of a life is missed, and clocks must agree as well. */
const LIFE = { least: 10_000, most: LEAF_LIFE_MS, usual: LEAF_LIFE_MS, written: '10s to 24h' };

/** Characters of audit lines that wait for a slow disk or reader. */
const MAX_PENDING = 4 * 1_048_576;

/** Addresses that stand for all of a machine. */
const EVERYWHERE: readonly string[] = ['0.0.0.0', '::'];

export async function serveCa(dir: string, values: CommandInput['values'], io: Io): Promise<number> {
  const { host, port } = listenAddress(String(values.listen ?? DEFAULT_LISTEN));
  const names = serverNames(values.san as readonly string[] | undefined, host);
  const lifeMs = spanOf('life', values.life, LIFE);
  // Whatever this process makes is for nobody else, logs that are rotated included.
  process.umask(0o077);
  const isTerminal = (io.stdout as { readonly isTTY?: boolean }).isTTY === true;
  const log = openProcessLog({ format: isTerminal ? 'text' : 'json' });
  const { logger } = log;
  const registry = new Registry();
  const errors = surviveUnhandledErrors({ log, registry });
  const lines = openLines(values.audit === undefined ? 1 : resolve(io.cwd, String(values.audit)), {
    maxPending: MAX_PENDING,
    prompt: true,
    onDrop: (count) => logger.error({ lines: count }, 'audit lines were lost'),
    onTrouble: (error) => logger.error({ err: error }, 'the audit log cannot be written'),
  });
  try {
    const service = await startCaService({
      dir,
      host,
      port,
      names,
      lifeMs,
      log: { info: (message) => logger.info(message), warn: (message) => logger.warn(message) },
      audit: (entry) => lines.write(auditLine(entry, Date.now())),
    });
    const stop = untilStopped({ close: () => service.close(), reload: async () => {} }, { log, registry });
    try {
      const at = service.address();
      logger.info(
        { trustDomain: service.trustDomain, names },
        `the CA service listens on https://${formatHostPort(at.host, at.port)}`,
      );
      return await stop.code;
    } finally {
      stop.detach();
    }
  } finally {
    errors.detach();
    await lines.end();
    await log.end();
  }
}

function listenAddress(written: string): { readonly host: string; readonly port: number } {
  const found = parseHostPort(written.startsWith(':') ? `0.0.0.0${written}` : written);
  if (found === null) throw new UsageError(`--listen: "${written}" is no address: write ${DEFAULT_LISTEN}`);
  return found;
}

function serverNames(written: readonly string[] | undefined, host: string): readonly string[] {
  const asked = written?.map((name) => {
    const found = isIP(name) ? name : parseHost(name);
    if (found === null) throw new UsageError(`--san: "${name}" is neither a name nor an address`);
    return found;
  });
  const own = parseHost(hostname());
  const usual = [...(own === null ? [] : [own]), 'localhost', '127.0.0.1', '::1'];
  const listening = EVERYWHERE.includes(host) ? [] : [host];
  return [...new Set([...(asked ?? usual), ...listening])];
}

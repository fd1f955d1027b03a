// Keeps one certificate per id fresh: issued when it is first needed, renewed at two thirds of its life, retried while that fails.
import { backoffMs, type Clock } from './clock.ts';
import type { IdentityLog } from './deps.ts';
import type { Svid } from './source.ts';

/** Share of a certificate's life after which it is renewed at the latest. */
const RENEW_AT = 2 / 3;

/** Up to this share of its life it is renewed earlier, so that workloads started together do not renew together. */
const JITTER = 0.05;

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 300_000;

/** Timers do not run while a machine sleeps: due times are looked at this often. */
const LONGEST_WAIT_MS = 60_000;

/** Certificates that are issued at the same time at most. */
const PARALLEL = 8;

export interface RotationDeps {
  /** Makes a new certificate for an id, or rejects with the reason; must end by itself. `signal` is aborted at `close`. */
  readonly issue: (id: string, signal: AbortSignal) => Promise<Svid>;
  /** After every renewal, and once after a `need` that brought something new. */
  readonly onChange: () => void;
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  readonly log: IdentityLog;
}

export interface Rotation {
  /** As `IdentitySource.need`: all of them or none. */
  need(ids: readonly string[]): Promise<void>;
  /** Of a store: used as if issued here, unless it has expired or there is one already. It becomes due as any other. */
  adopt(svid: Svid): void;
  svid(id: string): Svid | null;
  /** Issues every certificate anew, now; the old ones stay until then. For a CA that has changed. */
  renewAll(): void;
  warnings(): readonly string[];
  close(): void;
}

interface Entry {
  svid: Svid;
  renewAt: number;
  /** In a row. */
  failures: number;
  reason: string;
  /** Share of its life that was left when its expiry was last warned of; above 1: never. */
  warnedAt: number;
  renewing: boolean;
}

/** Shares of its life that a certificate which cannot be renewed has left when it is said again. */
const WARN_AT = [1 / 4, 1 / 8, 1 / 24, 0];

export function startRotation({ issue, onChange, clock, random, log }: RotationDeps): Rotation {
  /** Bounded by the roles of the config. */
  const entries = new Map<string, Entry>();
  const abort = new AbortController();
  let cancelTimer = (): void => {};

  /** `from`: when its life began for us. One that was just issued begins earlier than that only for clocks that are behind. */
  function keep(svid: Svid, from: number): void {
    const share = RENEW_AT - JITTER * random();
    // An issuer that sends what is about to end is not asked without a pause.
    const renewAt = Math.max(from + (svid.expiresAt - from) * share, clock.now() + FIRST_RETRY_MS);
    entries.set(svid.id, { svid, renewAt, failures: 0, reason: '', warnedAt: 2, renewing: false });
  }

  function schedule(): void {
    cancelTimer();
    if (abort.signal.aborted || entries.size === 0) return;
    const due = Math.min(...[...entries.values()].filter(({ renewing }) => !renewing).map(({ renewAt }) => renewAt));
    cancelTimer = clock.after(Math.min(LONGEST_WAIT_MS, Math.max(0, due - clock.now())), () => {
      void renewDue().catch((error: Error) => log.warn(`certificates could not be renewed: ${error.message}`));
    });
  }

  async function renewDue(): Promise<void> {
    const due = [...entries.values()].filter(({ renewing, renewAt }) => !renewing && renewAt <= clock.now());
    for (const entry of due) entry.renewing = true;
    for (const entry of entries.values()) warnOfExpiry(entry);
    const renewal = eachOf(due, renew);
    schedule();
    await renewal;
    schedule();
  }

  async function renew(entry: Entry): Promise<void> {
    const { id } = entry.svid;
    try {
      const svid = await issue(id, abort.signal);
      if (abort.signal.aborted) return;
      if (entry.failures > 0) log.info(`the certificate of ${id} is renewed after ${entry.failures} failures`);
      keep(svid, clock.now());
      onChange();
    } catch (error) {
      if (abort.signal.aborted) return;
      entry.renewing = false;
      entry.failures += 1;
      entry.reason = (error as Error).message;
      entry.renewAt = clock.now() + backoffMs(entry.failures, FIRST_RETRY_MS, longestRetryMs(entry), random);
      warnOfExpiry(entry);
    }
  }

  /** Short enough that a few tries are left before the end, however short its life is. Once it is over nothing is urgent any more. */
  function longestRetryMs({ svid }: Entry): number {
    const left = svid.expiresAt - clock.now();
    return left <= 0 ? LONGEST_RETRY_MS : Math.min(LONGEST_RETRY_MS, Math.max(FIRST_RETRY_MS, left / 4));
  }

  /** At the first failure, and again as its end comes nearer. */
  function warnOfExpiry(entry: Entry): void {
    if (entry.failures === 0) return;
    const { notBefore, expiresAt } = entry.svid;
    const left = (expiresAt - clock.now()) / (expiresAt - notBefore);
    if (entry.warnedAt <= 1 && !WARN_AT.some((share) => left <= share && share < entry.warnedAt)) return;
    entry.warnedAt = left;
    log.warn(problemOf(entry, clock.now()));
  }

  async function need(ids: readonly string[]): Promise<void> {
    const missing = [...new Set(ids)].filter((id) => (entries.get(id)?.svid.expiresAt ?? 0) <= clock.now());
    if (missing.length === 0) return;
    const made: Svid[] = [];
    await eachOf(missing, async (id) => {
      made.push(await issue(id, abort.signal));
    });
    if (abort.signal.aborted) throw new Error('the source of certificates is closed');
    for (const svid of made) keep(svid, clock.now());
    schedule();
    onChange();
  }

  return {
    need,
    adopt(svid) {
      if (svid.expiresAt <= clock.now() || entries.has(svid.id)) return;
      keep(svid, svid.notBefore);
      schedule();
    },
    svid: (id) => entries.get(id)?.svid ?? null,
    renewAll() {
      for (const entry of entries.values()) entry.renewAt = 0;
      schedule();
    },
    warnings: () =>
      [...entries.values()].filter(({ failures }) => failures > 0).map((entry) => problemOf(entry, clock.now())),
    close() {
      abort.abort();
      cancelTimer();
      entries.clear();
    },
  };
}

function problemOf({ svid, reason }: Entry, now: number): string {
  const until = new Date(svid.expiresAt).toISOString();
  const end = svid.expiresAt <= now ? `has expired at ${until}` : `expires at ${until}`;
  return `the certificate of ${svid.id} ${end} and could not be renewed: ${reason}`;
}

/** Rejects with the first failure, once all have ended. */
async function eachOf<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      try {
        await act(item);
      } catch (error) {
        failures.push(error);
        queue.length = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
}

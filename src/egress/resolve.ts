// From the name that an application asks for to addresses, before anything is dialled: every one of them is judged, and only those are used.
import { lookup } from 'node:dns/promises';
import { SelvedgeError } from '../errors.ts';
import type { Wheel } from '../timer-wheel.ts';
import { canonicalAddress } from './address-class.ts';

/** All addresses of a name. Rejects where there are none. */
export type LookupAll = (host: string) => Promise<readonly string[]>;

/** By the system: /etc/hosts counts too. */
export const systemLookup: LookupAll = async (host) => {
  const found = await lookup(host, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
};

export interface ResolverOptions {
  readonly wheel: Wheel;
  /** Default: the system's. */
  readonly lookup?: LookupAll;
}

/** Names remembered; the one that was asked for longest ago goes first. */
export const MAX_NAMES = 1_000;
/** The system does not say how long an answer holds. */
export const TTL_MS = 30_000;
/** A name that does not exist is asked for again and again. */
export const FAILURE_TTL_MS = 2_000;
/** Lookups under way: each takes a thread of a pool that others share. */
const MAX_UNDER_WAY = 64;
const TIMEOUT_MS = 5_000;
/** Addresses kept of one name. */
const MAX_ADDRESSES = 16;

interface Known {
  readonly until: number;
  readonly addresses: readonly string[];
  readonly error: SelvedgeError | null;
}

export class Resolver {
  readonly #wheel: Wheel;
  readonly #lookup: LookupAll;
  /** In order of use, at most MAX_NAMES. */
  readonly #known = new Map<string, Known>();
  /** At most MAX_UNDER_WAY. */
  readonly #underWay = new Map<string, Promise<readonly string[]>>();

  constructor({ wheel, lookup: find = systemLookup }: ResolverOptions) {
    this.#wheel = wheel;
    this.#lookup = find;
  }

  /** In canonical form, sorted and without doubles; never empty. Rejects with SLV_UPSTREAM_DNS. */
  async resolve(host: string): Promise<readonly string[]> {
    const literal = canonicalAddress(host);
    if (literal !== null) return [literal];
    const known = this.#known.get(host);
    if (known !== undefined && known.until > this.#wheel.now()) {
      this.#remember(host, known);
      if (known.error !== null) throw known.error;
      return known.addresses;
    }
    const underWay = this.#underWay.get(host);
    if (underWay !== undefined) return this.#withinTime(host, underWay);
    if (this.#underWay.size >= MAX_UNDER_WAY)
      throw new SelvedgeError(
        'SLV_UPSTREAM_DNS',
        `"${host}" was not looked up: ${MAX_UNDER_WAY} lookups are under way`,
      );
    // The lookup itself cannot be called off: it counts until it ends, whoever still waits for it.
    const asked = this.#ask(host).finally(() => this.#underWay.delete(host));
    this.#underWay.set(host, asked);
    asked.catch(() => undefined);
    return this.#withinTime(host, asked);
  }

  async #ask(host: string): Promise<readonly string[]> {
    try {
      const found = await this.#lookup(host);
      const addresses = [...new Set(found.map((address) => canonicalAddress(address)))]
        .filter((address) => address !== null)
        .sort()
        .slice(0, MAX_ADDRESSES);
      if (addresses.length === 0) throw new Error('it has no address');
      this.#remember(host, { until: this.#wheel.now() + TTL_MS, addresses, error: null });
      return addresses;
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      const error = new SelvedgeError('SLV_UPSTREAM_DNS', `"${host}" cannot be resolved: ${message}`, { cause });
      this.#remember(host, { until: this.#wheel.now() + FAILURE_TTL_MS, addresses: [], error });
      throw error;
    }
  }

  #withinTime(host: string, asked: Promise<readonly string[]>): Promise<readonly string[]> {
    return new Promise((resolve, reject) => {
      const timer = this.#wheel.after(TIMEOUT_MS, () =>
        reject(new SelvedgeError('SLV_UPSTREAM_DNS', `looking up "${host}" took more than ${TIMEOUT_MS} ms`)),
      );
      asked.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  #remember(host: string, known: Known): void {
    this.#known.delete(host);
    this.#known.set(host, known);
    if (this.#known.size <= MAX_NAMES) return;
    const [oldest] = this.#known.keys();
    this.#known.delete(oldest);
  }
}

// What is known of one endpoint's fitness: outlives reloads with it, and decides whether load balancing may draw it.

/**
 * `out`: left out on suspicion (ejected, returning, or resting as it asked for); where too few others are left it is used all the
 * same. `down`: known not to serve (active checks, or nothing listens there), never used.
 */
export type Availability = 'available' | 'out' | 'down';

/** Whoever compiled the endpoint into something is told that it may look different now. */
export interface HealthOwner {
  healthChanged(): void;
}

/** Times are milliseconds on the process clock. */
export class EndpointHealth {
  /** By active checks; null: none has answered yet, or there are none. */
  checked: boolean | null = null;
  /** There are active checks: until the first has answered, others are preferred. */
  awaitsCheck = false;
  /** Some config in force has had it. */
  seen = false;
  /** Nothing accepts connections there; only known where requests wait for endpoints. */
  unreachable = false;
  /** Failures since the last success. */
  consecutiveFailures = 0;
  /** Of the current interval, for `successRate`. */
  intervalRequests = 0;
  intervalFailures = 0;
  /** A live request is finding out whether it works again. */
  probing = false;
  /** Since when it may take its full share; a new one starts with `slowStart`. */
  availableSince = Number.NEGATIVE_INFINITY;
  readonly #owner: HealthOwner;
  #ejected = false;
  #ejectedUntil = 0;
  /** How often in a row; the next ejection lasts as many times longer. */
  #ejections = 0;
  #returnedAt = 0;
  #restingUntil = 0;

  constructor(owner: HealthOwner) {
    this.#owner = owner;
  }

  /** Ejected, or back on probation. */
  get ejected(): boolean {
    return this.#ejected;
  }

  /** 0 when it is not ejected. */
  get ejectedUntil(): number {
    return this.#ejected ? this.#ejectedUntil : 0;
  }

  availability(now: number): Availability {
    if (this.checked === false || this.unreachable) return 'down';
    const unknown = this.awaitsCheck && this.checked === null;
    return unknown || this.#ejected || now < this.#restingUntil ? 'out' : 'available';
  }

  /** The ejection is over: one live request may find out whether it works again. */
  isReturning(now: number): boolean {
    return this.#ejected && now >= this.#ejectedUntil && this.checked !== false && !this.unreachable;
  }

  /** When `availability` or `isReturning` changes by itself next; Infinity: it does not. */
  nextChangeAt(now: number): number {
    let at = Number.POSITIVE_INFINITY;
    if (this.#ejected && now < this.#ejectedUntil) at = this.#ejectedUntil;
    if (now < this.#restingUntil) at = Math.min(at, this.#restingUntil);
    return at;
  }

  /** Leaves it out for `baseMs` times the ejections in a row, this one included. Returns for how long. */
  eject(now: number, { baseMs, maxMs, intervalMs }: EjectionTimes, random: () => number): number {
    if (!this.#ejected) {
      // Forgiven one step for every interval that it was healthy.
      const healthyFor = now - this.#returnedAt;
      this.#ejections = Math.max(0, this.#ejections - Math.floor(healthyFor / intervalMs));
    }
    this.#ejections += 1;
    this.#ejected = true;
    this.probing = false;
    this.consecutiveFailures = 0;
    const jitter = 0.9 + 0.2 * random();
    const forMs = Math.min(baseMs * this.#ejections, maxMs) * jitter;
    this.#ejectedUntil = now + forMs;
    this.#owner.healthChanged();
    return forMs;
  }

  /** It works again. */
  reinstate(now: number): void {
    if (!this.#ejected) return;
    this.#ejected = false;
    this.#returnedAt = now;
    this.#becomesAvailable(now);
  }

  /** A verdict of active checks. A pass ends an ejection too: it is the better knowledge. Returns whether it did. */
  check(healthy: boolean, now: number): boolean {
    const before = this.checked;
    this.checked = healthy;
    if (!healthy) {
      this.#owner.healthChanged();
      return false;
    }
    const wasEjected = this.#ejected;
    this.#ejected = false;
    if (wasEjected) this.#returnedAt = now;
    this.consecutiveFailures = 0;
    // The first verdict of a new endpoint is no return.
    if (before === false || wasEjected) this.#becomesAvailable(now);
    else this.#owner.healthChanged();
    return wasEjected;
  }

  setUnreachable(unreachable: boolean, now: number): void {
    if (this.unreachable === unreachable) return;
    this.unreachable = unreachable;
    if (unreachable) this.#owner.healthChanged();
    else this.#becomesAvailable(now);
  }

  /** It asked to be left alone. */
  rest(until: number): void {
    if (until <= this.#restingUntil) return;
    this.#restingUntil = until;
    this.#owner.healthChanged();
  }

  /** What found it out has been switched off, so it is held against it no more. */
  forget({
    ejection,
    check,
    contact,
  }: {
    readonly ejection: boolean;
    readonly check: boolean;
    readonly contact: boolean;
  }): void {
    if (ejection) this.#ejected = false;
    if (check) this.checked = null;
    if (contact) this.unreachable = false;
    this.#owner.healthChanged();
  }

  describe(now: number): HealthDescription {
    const ejectedForMs = this.#ejected ? Math.max(0, Math.round(this.#ejectedUntil - now)) : 0;
    return { health: this.#state(now), ejectedForMs, consecutiveFailures: this.consecutiveFailures };
  }

  #state(now: number): HealthState {
    if (this.unreachable) return 'unreachable';
    if (this.checked === false) return 'unhealthy';
    if (this.#ejected) return now < this.#ejectedUntil ? 'ejected' : 'returning';
    if (now < this.#restingUntil) return 'resting';
    return this.awaitsCheck && this.checked === null ? 'unchecked' : 'healthy';
  }

  #becomesAvailable(now: number): void {
    this.availableSince = now;
    this.#owner.healthChanged();
  }
}

/** As the admin API says it. */
export type HealthState = 'healthy' | 'unchecked' | 'resting' | 'ejected' | 'returning' | 'unhealthy' | 'unreachable';

export interface HealthDescription {
  readonly health: HealthState;
  /** Milliseconds until it gets another chance; 0 when it is not ejected. */
  readonly ejectedForMs: number;
  readonly consecutiveFailures: number;
}

export interface EjectionTimes {
  readonly baseMs: number;
  readonly maxMs: number;
  readonly intervalMs: number;
}

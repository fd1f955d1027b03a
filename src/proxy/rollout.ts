// A route that moves from one version of its service to another by itself: which share the new one has, and why it goes on, waits or goes back.
import type { RolloutPolicy } from '../config/model.ts';
import type { Wheel, WheelTimer } from '../timer-wheel.ts';
import { type Figures, VersionWindow } from './rollout-figures.ts';
import { judge, type Verdict, share as written } from './rollout-verdict.ts';

export type RolloutState = 'progressing' | 'paused' | 'complete' | 'aborted';

/** The version that a request went to. */
export type Version = 'from' | 'to';

export interface RolloutStatus {
  readonly state: RolloutState;
  /** 1-based. */
  readonly step: number;
  /** Of the new version, 0 to 1. */
  readonly share: number;
  /** One sentence. */
  readonly reason: string;
  /** Milliseconds on the clock of the wheel: when the state or the step last changed. */
  readonly since: number;
  /** When the next step is due at the earliest; null: none is. */
  readonly nextStepAt: number | null;
  readonly from: Figures;
  readonly to: Figures;
}

/** `held`: it does not advance although its time has come, because something is wrong. */
export type Transition = 'started' | 'advanced' | 'held' | 'paused' | 'resumed' | 'completed' | 'aborted';

export type OnTransition = (rollout: Rollout, transition: Transition, status: RolloutStatus) => void;

/** Between two looks while nothing fails. */
const TICK_MS = 1_000;

/** A generation of measurements lasts half a step, within these bounds, and longer until the new version has had `minRequests`. */
const MIN_GENERATION_MS = 10_000;
const MAX_GENERATION_MS = 300_000;

/** One owner for all listeners of a route; it outlives reloads while its policy is the same. */
export class Rollout {
  readonly route: string;
  readonly policy: RolloutPolicy;
  readonly #wheel: Wheel;
  readonly #onTransition: OnTransition;
  readonly #generationMs: number;
  readonly #from = new VersionWindow();
  readonly #to = new VersionWindow();
  #state: RolloutState = 'progressing';
  #step = 0;
  #share: number;
  #reason = 'it has not begun';
  #since = 0;
  /** When the step began; pauses move it on. */
  #stepSince = 0;
  #generationSince = 0;
  /** Requests that began before count no more: they were divided otherwise, and only the slow ones of them are left. */
  #measuredSince = 0;
  /** Of the new version in this step. */
  #stepRequests = 0;
  #holding = false;
  #stopped = false;
  #timer: WheelTimer | null = null;

  constructor(route: string, policy: RolloutPolicy, wheel: Wheel, onTransition: OnTransition) {
    this.route = route;
    this.policy = policy;
    this.#wheel = wheel;
    this.#onTransition = onTransition;
    this.#generationMs = Math.min(Math.max(policy.everyMs / 2, MIN_GENERATION_MS), MAX_GENERATION_MS);
    this.#share = policy.steps[0];
  }

  get state(): RolloutState {
    return this.#state;
  }

  /** Of the new version: 0 or one of the steps. */
  share(): number {
    return this.#share;
  }

  /** Begins with the first step, with nothing measured. */
  start(): void {
    this.#begin('started', `${this.#moves()} begins`);
  }

  /** No config names it any more: what is still under way counts no more. */
  stop(): void {
    this.#stopped = true;
    this.#unschedule();
  }

  /** One request is over. Constant time; a failed or slow one of the new version is judged at once. */
  record(version: Version, failed: boolean, durationMs: number | null, now: number): void {
    if (this.#stopped || (this.#state !== 'progressing' && this.#state !== 'paused')) return;
    if (now - (durationMs ?? 0) < this.#measuredSince) return;
    const { p99Ms } = this.policy.abortOn;
    this.#roll(now);
    (version === 'to' ? this.#to : this.#from).observe(failed, durationMs, p99Ms);
    if (version === 'from') return;
    this.#stepRequests += 1;
    const slow = p99Ms !== null && durationMs !== null && durationMs > p99Ms;
    if ((failed || slow) && this.#state === 'progressing') this.#abortIfWorse(this.#judge());
  }

  /** Keeps the share as it is, whatever is measured. Returns why not, or null. */
  pause(): string | null {
    if (this.#state === 'paused') return null;
    if (this.#state !== 'progressing') return `it is ${this.#state}: there is nothing to pause`;
    this.#unschedule();
    this.#become('paused', 'paused', `paused at ${written(this.#share)} by an operator`);
    return null;
  }

  /** After a pause where it was; after an abort from the first step, with nothing measured. Returns why not, or null. */
  resume(): string | null {
    if (this.#state === 'progressing') return null;
    if (this.#state === 'complete') return 'it is complete: there is nothing to resume';
    if (this.#state === 'aborted') {
      this.#begin('resumed', `${this.#moves()} begins again, resumed by an operator`);
      return null;
    }
    this.#stepSince += this.#wheel.now() - this.#since;
    this.#become('progressing', 'resumed', `resumed at ${written(this.#share)} by an operator`);
    this.#schedule();
    return null;
  }

  /** Back to the old version at once, also from the end: nothing speaks against that. */
  abort(): null {
    if (this.#state !== 'aborted') this.#goBack('aborted by an operator');
    return null;
  }

  status(): RolloutStatus {
    const { steps, everyMs } = this.policy;
    const ends = this.#step === steps.length - 1 && this.#share < 1;
    return {
      state: this.#state,
      step: this.#step + 1,
      share: this.#share,
      reason: this.#reason,
      since: this.#since,
      nextStepAt: this.#state === 'progressing' && !ends ? this.#stepSince + everyMs : null,
      from: this.#from.figures(),
      to: this.#to.figures(),
    };
  }

  #begin(transition: Transition, reason: string): void {
    this.#enterStep(0);
    this.#become('progressing', transition, reason);
    this.#schedule();
  }

  #enterStep(step: number): void {
    const now = this.#wheel.now();
    this.#step = step;
    this.#share = this.policy.steps[step];
    this.#stepSince = now;
    this.#generationSince = now;
    this.#measuredSince = now;
    this.#stepRequests = 0;
    this.#holding = false;
    this.#from.clear();
    this.#to.clear();
  }

  #schedule(): void {
    this.#unschedule();
    this.#timer = this.#wheel.after(TICK_MS, this.#tick);
  }

  #unschedule(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  readonly #tick = (): void => {
    this.#timer = null;
    if (this.#state !== 'progressing') return;
    const now = this.#wheel.now();
    this.#roll(now);
    const verdict = this.#judge();
    if (!this.#abortIfWorse(verdict)) this.#goOn(verdict, now);
    // Aborted, complete or stopped by whoever heard of it: nothing is left to look at.
    if (this.#state === 'progressing' && this.#timer === null && !this.#stopped) this.#schedule();
  };

  #judge(): Verdict {
    return judge(this.policy, this.#from.figures(), this.#to.figures());
  }

  #abortIfWorse(verdict: Verdict): boolean {
    if (verdict.kind !== 'worse') return false;
    this.#goBack(verdict.reason);
    return true;
  }

  /** Advances when the time has come and nothing speaks against it; else says what it waits for. */
  #goOn(verdict: Verdict, now: number): void {
    const { everyMs, steps, to } = this.policy;
    const last = this.#step === steps.length - 1;
    const wrong = verdict.kind === 'both' || verdict.kind === 'unsure';
    if (now - this.#stepSince < everyMs || verdict.kind !== 'good') {
      const good = `${to} has ${written(this.#share)} and is within the limits`;
      this.#reason = verdict.kind === 'good' ? good : `${wrong ? 'holds' : 'waits'}: ${verdict.reason}`;
      this.#hold(wrong && now - this.#stepSince >= everyMs);
    } else if (this.#stepRequests < this.policy.abortOn.minRequests) {
      this.#reason = `waits: ${to} has had too few requests in this step`;
    } else if (!last) {
      this.#enterStepAndSay(this.#step + 1);
    } else if (this.#share === 1) {
      this.#become('complete', 'completed', `${this.policy.service} has moved to ${to}`);
    } else {
      this.#hold(false);
      this.#reason = `${to} stays at ${written(this.#share)}, the last step`;
    }
  }

  #enterStepAndSay(step: number): void {
    const before = this.status();
    this.#enterStep(step);
    this.#since = this.#wheel.now();
    this.#reason = `${this.policy.to} goes to ${written(this.#share)}`;
    // Told with the figures that it advanced by, not with the empty ones of the new step.
    this.#onTransition(this, 'advanced', { ...this.status(), from: before.from, to: before.to });
  }

  #hold(holding: boolean): void {
    if (holding === this.#holding) return;
    this.#holding = holding;
    if (holding) this.#onTransition(this, 'held', this.status());
  }

  #goBack(reason: string): void {
    this.#unschedule();
    this.#share = 0;
    this.#become('aborted', 'aborted', reason);
  }

  #become(state: RolloutState, transition: Transition, reason: string): void {
    this.#state = state;
    this.#reason = reason;
    this.#since = this.#wheel.now();
    this.#onTransition(this, transition, this.status());
  }

  /** Both versions at once, so that they are always compared over the same time. */
  #roll(now: number): void {
    if (now - this.#generationSince < this.#generationMs || this.#to.fresh < this.policy.abortOn.minRequests) return;
    this.#generationSince = now;
    this.#from.roll();
    this.#to.roll();
  }

  #moves(): string {
    const { service, from, to } = this.policy;
    return `moving ${service} from ${from} to ${to}`;
  }
}

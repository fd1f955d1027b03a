// A worker's end of what all workers count together: every question goes to the supervisor, and nobody waits longer than for any store.
import type { Central } from '../../plugin.ts';
import type { Granted, Message, Opening, Question } from './central-service.ts';
import type { Accounts, Entered, Places } from './limit.ts';
import type { Grant, Quota } from './quota.ts';

const SERVICE = 'rate-limit';
/** At load nobody waits for an answer yet. */
const OPEN_MS = 10_000;

/** One limit that the supervisor knows by a number. */
class CentralLimit {
  /** Rejects when the supervisor does not answer; whoever loads the plugin is told. */
  readonly opened: Promise<void>;
  readonly #central: Central;
  #id = 0;

  constructor(central: Central, opening: Opening) {
    this.#central = central;
    this.opened = central.ask(SERVICE, opening, { timeoutMs: OPEN_MS }).then((id) => {
      this.#id = id as number;
    });
  }

  async ask(what: 'take' | 'enter', key: string, amount: number, onLate: (answer: Granted) => void): Promise<Granted> {
    const question: Question = [what, this.#id, key, amount];
    const late = (answer: unknown): void => onLate(answer as Granted);
    return (await this.#central.ask(SERVICE, question, { onLate: late })) as Granted;
  }

  tell(what: Message[0], key = '', cost = 0): void {
    this.#central.tell(SERVICE, [what, this.#id, key, cost]);
  }

  close(): void {
    this.tell('close');
  }
}

export class CentralCounters extends CentralLimit implements Accounts {
  readonly quota: Quota;
  readonly #onForget: () => void;

  /** `identity`: equal for limits that are charged together. */
  constructor(central: Central, quota: Quota, maxKeys: number, identity: string, onForget: () => void) {
    super(central, { open: 'accounts', identity, quota, maxKeys });
    this.quota = quota;
    this.#onForget = onForget;
  }

  async take(key: string, cost: number): Promise<Grant> {
    const late = ([granted]: Granted): void => {
      // The request went through or was refused without it.
      if (granted) this.giveBack(key, cost);
    };
    const [granted, remaining, waitMs, forgotten] = await this.ask('take', key, cost, late);
    for (let i = 0; i < forgotten; i++) this.#onForget();
    return { granted, remaining, waitMs };
  }

  charge(key: string, cost: number): void {
    this.tell('charge', key, cost);
  }

  giveBack(key: string, cost: number): void {
    this.tell('giveBack', key, cost);
  }
}

export class CentralPlaces extends CentralLimit implements Places {
  constructor(central: Central, identity: string) {
    super(central, { open: 'places', identity });
  }

  async enter(key: string, max: number): Promise<Entered> {
    const late = ([granted]: Granted): void => {
      if (granted) this.leave(key);
    };
    const [granted, remaining, waitMs] = await this.ask('enter', key, max, late);
    return { granted, remaining, waitMs };
  }

  leave(key: string): void {
    this.tell('leave', key);
  }
}

// Requests and responses that one turn of the event loop produced leave together, at its end.
//
// A write wakes whoever waits at the other end. Spread over a turn, each write wakes a process that has just fallen asleep
// again; together they find it awake. Measured with bench/: a quarter of the CPU of a proxied request. Nothing waits longer
// than the turn that is under way, and a lone request costs one callback.

/** Something to do at the end of this turn. */
export interface TurnWork {
  endOfTurn(): void;
}

/** Bounded by the requests in flight: each is in it at most once. */
let waiting: TurnWork[] = [];

export function atEndOfTurn(work: TurnWork): void {
  if (waiting.push(work) === 1) setImmediate(runTurn);
}

function runTurn(): void {
  const due = waiting;
  waiting = [];
  for (const work of due) {
    try {
      work.endOfTurn();
    } catch (error) {
      process.nextTick(rethrow, error);
    }
  }
}

/** One request's failure must not keep the others of its turn from leaving. */
function rethrow(error: unknown): never {
  throw error;
}

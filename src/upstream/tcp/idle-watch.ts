// Tells of a connection that rests for too long: looks every so often whether a byte has moved since.
import type { Wheel, WheelTimer } from '../../timer-wheel.ts';

export interface IdleWatch {
  stop(): void;
}

/**
 * Coarse: `idle` is called once, after one to two times `idleMs` without a byte.
 *
 * @param idleMs 0: never
 * @param moved bytes so far, either way
 */
export function watchIdle(wheel: Wheel, idleMs: number, moved: () => number, idle: () => void): IdleWatch {
  let before = -1;
  let timer: WheelTimer | null = null;
  const look = (): void => {
    const now = moved();
    if (now === before) {
      timer = null;
      idle();
      return;
    }
    before = now;
    timer = wheel.after(idleMs, look);
  };
  if (idleMs > 0) look();
  return { stop: () => timer?.cancel() };
}

import type { AdaptiveConcurrency } from '../config/model.ts';
export class AdaptiveLimit {
  limit = 0;
  constructor({ max }: AdaptiveConcurrency) {
    this.limit = max;
  }
  tryAcquire(_now: number): boolean {
    return true;
  }
  release(_latencyMs: number | null, _now: number): void {}
}

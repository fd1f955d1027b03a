// What the supervisor of several workers counts for the plugins of all of them, by name; each is loaded when a plugin first asks for it.
import type { CentralService } from '../plugin.ts';

export const centralServices: ReadonlyMap<string, () => Promise<CentralService>> = new Map([
  ['rate-limit', async () => (await import('./rate-limit/central-service.ts')).rateLimitService()],
]);

// The only list of built-in plugins; each module is imported when the first config names it.
import type { Builtin, Builtins } from '../plugin.ts';

export const builtins: Builtins = new Map<string, Builtin>([
  ['access-log', () => import('./access-log.ts')],
  ['api-key', () => import('./api-key.ts')],
  ['authorization', () => import('./authorization.ts')],
  ['basic-auth', () => import('./basic-auth.ts')],
  ['body-limit', () => import('./body-limit.ts')],
  ['circuit-breaker', () => import('./circuit-breaker.ts')],
  ['cors', () => import('./cors.ts')],
  ['fault', () => import('./fault.ts')],
  ['header-routing', () => import('./header-routing.ts')],
  ['ip-rules', () => import('./ip-rules.ts')],
  ['jwt', () => import('./jwt.ts')],
  ['load-shedding', () => import('./load-shedding.ts')],
  ['metrics', () => import('./metrics.ts')],
  ['mtls', () => import('./mtls.ts')],
  ['mirror', () => import('./mirror.ts')],
  ['outlier-detection', () => import('./outlier-detection.ts')],
  ['rate-limit', () => import('./rate-limit.ts')],
  ['request-headers', () => import('./request-headers.ts')],
  ['request-id', () => import('./request-id.ts')],
  ['response-headers', () => import('./response-headers.ts')],
  ['retry', () => import('./retry.ts')],
  ['security-headers', () => import('./security-headers.ts')],
  ['tracing', () => import('./tracing.ts')],
]);

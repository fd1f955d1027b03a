// Requests that a plugin makes by itself (`app.upstream.send`): to a service of the config in force, on the same stack as all others.
import type { DispatchHandler } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { OwnRequest, Role } from '../plugin.ts';
import { NO_RETRY } from '../policies/retry.ts';
import type { Call } from '../upstream/call.ts';
import type { Caller } from '../upstream/caller.ts';
import type { Service } from '../upstream/service.ts';
import { buildStack } from '../upstream/stack.ts';

/** Services by name, as the config in force has them; empty before the first one is. */
export type ServiceDirectory = () => ReadonlyMap<string, Service>;

const stack = buildStack({ perRequest: [], perAttempt: [] });

/** Milliseconds between bytes of an answer. */
const IDLE_MS = 60_000;

export function sendOwn(
  services: ServiceDirectory,
  from: { readonly role: Role; readonly caller: Caller | null },
  name: string,
  subset: string | null,
  request: OwnRequest,
  handler: DispatchHandler,
): void {
  const service = services().get(name);
  if (service === undefined) {
    handler.onResponseError?.(null, new SelvedgeError('SLV_BACKEND_INVALID', `no service "${name}"`));
    return;
  }
  const { method, path, headers, body, contentLength, timeoutMs } = request;
  const call: Call = {
    service,
    subset,
    timeouts: { requestMs: timeoutMs, perTryMs: 0, idleMs: IDLE_MS },
    retry: NO_RETRY,
    hedge: null,
    outlierDetection: service.outlierDetection,
    outerAttempt: 0,
    hashKey: Math.floor(service.random() * 2 ** 32),
    sticky: null,
    waitUntil: 0,
    grpcTimeout: false,
    hopPath: null,
    deadlineAt: Number.POSITIVE_INFINITY,
    attempts: [],
    preferred: null,
    tried: [],
    internal: from.role !== 'gateway',
    caller: from.caller,
    onEndpoint() {},
    observe: () => null,
  };
  const options = {
    method,
    path,
    headers: [...headers],
    body,
    contentLength: body === null ? contentLength : body.length,
    upgrade: null,
    expectContinue: false,
    rawOnly: false,
    call,
  };
  stack(options, handler);
}

// Stands around the interceptors of plugins: what they throw fails their request and nothing else, whatever they do to controllers.
import type { DispatchOptions, Interceptor } from '../dispatch.ts';
import { SelvedgeError } from '../errors.ts';
import type { Call } from './call.ts';
import { Inside, Outside } from './fence-sides.ts';
import { normaliseOptions } from './foreign-options.ts';

/** A chain without interceptors of plugins has no fence, and keeps the fast path on which no header object is built. */
export function fence(interceptors: readonly Interceptor[]): readonly Interceptor[] {
  if (interceptors.length === 0) return interceptors;
  // Interceptors of others copy options as they like, but `call` must come out as it went in: what the two sides share hangs on it.
  const outsides = new WeakMap<Call, Outside>();

  const enter: Interceptor = (dispatch) => (options, handler) => {
    const call = options.call as Call;
    const outside = new Outside(handler);
    outsides.set(call, outside);
    // Interceptors read header objects, and undici's ask for an origin before there is an endpoint.
    options.rawOnly = false;
    options.origin ??= logicalOrigin(options, call);
    try {
      return dispatch(options, outside);
    } catch (error) {
      outside.fail(error);
      return true;
    }
  };

  const leave: Interceptor = (dispatch) => (options, handler) => {
    const outside = outsides.get(options.call as Call);
    if (outside === undefined) {
      throw new SelvedgeError('SLV_PLUGIN_FAILED', 'an interceptor did not pass `options.call` on');
    }
    return dispatch(normaliseOptions(options), new Inside(handler, outside));
  };

  return [enter, ...interceptors, leave];
}

/**
 * What a request is for, before there is an endpoint: `http://SUBSET.SERVICE.HOST`, `all` for no subset. A cache keys by it, so
 * nothing that may be answered differently shares one.
 */
function logicalOrigin({ headers }: DispatchOptions, { service, subset }: Call): string {
  let host = '';
  for (let index = 0; index < headers.length; index += 2) {
    if (headers[index].length === 4 && headers[index].toLowerCase() === 'host') host = `.${headers[index + 1]}`;
  }
  return `http://${subset === null ? 'all' : `subset-${label(subset)}`}.${label(service.name)}${host}`;
}

/** One name as one label of a host name; different names stay different. */
function label(name: string): string {
  return name.replace(/[^A-Za-z0-9-]/g, (character) => `_${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

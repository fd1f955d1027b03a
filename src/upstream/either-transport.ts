// While a mesh migrates (`mtls: permissive`): TLS to a hop that speaks it, plain to one that does not yet.
import type { DispatchHandler, DispatchOptions } from '../dispatch.ts';
import { TRANSPORT_CODES } from '../dispatch.ts';
import type { TimerWheel } from '../timer-wheel.ts';
import type { Transport } from './endpoint.ts';
import type { Failure } from './outcome.ts';
import { PassThrough } from './pass-through.ts';
import { sumOf, type TransportStats } from './transport-stats.ts';

/** How long a hop that did not speak TLS is taken for plain; then it is asked again. */
export const PLAIN_MS = 10_000;

export class EitherTransport implements Transport {
  readonly #secure: Transport;
  readonly #plain: Transport;
  readonly #wheel: TimerWheel;
  #plainUntil = 0;

  constructor(secure: Transport, plain: Transport, wheel: TimerWheel) {
    this.#secure = secure;
    this.#plain = plain;
    this.#wheel = wheel;
  }

  readonly dispatch = (options: DispatchOptions, handler: DispatchHandler): boolean => {
    if (this.#wheel.now() < this.#plainUntil) return this.#plain.dispatch(options, handler);
    const first = new OrPlain(handler, () => {
      this.#plainUntil = this.#wheel.now() + PLAIN_MS;
      this.#plain.dispatch(options, handler);
    });
    return this.#secure.dispatch(options, first);
  };

  async close(): Promise<void> {
    await Promise.all([this.#secure.close(), this.#plain.close()]);
  }

  destroy(reason?: Error): void {
    this.#secure.destroy(reason);
    this.#plain.destroy(reason);
  }

  get stats(): TransportStats {
    return sumOf([this.#secure.stats, this.#plain.stats]);
  }
}

/** Nothing of the request was sent, so it may go the other way. */
class OrPlain extends PassThrough {
  readonly #goPlain: () => void;

  constructor(handler: DispatchHandler, goPlain: () => void) {
    super(handler);
    this.#goPlain = goPlain;
  }

  override onResponseError(controller: Parameters<PassThrough['onResponseError']>[0], error: Error): void {
    const { code, unsent, cause } = error as Failure;
    // Not a certificate that was refused: that hop speaks TLS, and nothing goes to it in the clear.
    if (code === TRANSPORT_CODES.tls && unsent === true && speaksNoTls(cause)) this.#goPlain();
    else super.onResponseError(controller, error);
  }
}

/** The answer to a TLS handshake was something else. */
export function speaksNoTls(cause: unknown): boolean {
  const { code, message = '' } = (cause ?? {}) as { code?: string; message?: string };
  return (
    code === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
    code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG' ||
    (code === 'EPROTO' && message.includes('wrong version number'))
  );
}

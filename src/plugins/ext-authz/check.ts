// Hears the answer of the authorization service: what it comes to, within bounds of time and size.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../../plugin.ts';

/** Of the body of a refusal, at most: past it the client gets a refusal of ours. */
const ANSWER_BYTES = 65_536;

export type Outcome =
  | { readonly kind: 'granted'; readonly headers: ResponseHeaders }
  /** `body` null: it could not be had whole. */
  | {
      readonly kind: 'denied';
      readonly status: number;
      readonly headers: ResponseHeaders;
      readonly body: Buffer | null;
    }
  /** There is no answer. `reason` is a word of ours. */
  | { readonly kind: 'failed'; readonly reason: string; readonly error: Error };

/**
 * The head decides: 2xx is a yes, 5xx (and what makes no sense here) is no answer, everything else a no, whatever becomes of its body.
 */
export class Check implements DispatchHandler {
  #tell: ((outcome: Outcome) => void) | null;
  #controller: DispatchController | null = null;
  #over = false;
  #refusal: { readonly status: number; readonly headers: ResponseHeaders } | null = null;
  #body: Buffer[] = [];
  #bytes = 0;
  readonly #timer: NodeJS.Timeout;

  /**
   * @param timeoutMs for the whole exchange
   * @param tell called once, unless it is abandoned
   */
  constructor(timeoutMs: number, tell: (outcome: Outcome) => void) {
    this.#tell = tell;
    this.#timer = setTimeout(() => {
      this.#cut(new Error(`no answer within ${timeoutMs} ms`), 'timeout');
    }, timeoutMs);
  }

  /** Nobody waits for the answer any more. */
  abandon(): void {
    this.#tell = null;
    this.#stop(new Error('nobody waits for the answer'));
  }

  onRequestStart(controller: DispatchController): void {
    if (this.#over) controller.abort(new Error('nobody waits for the answer'));
    else this.#controller = controller;
  }

  onRequestUpgrade(_controller: DispatchController, _status: number, _headers: ResponseHeaders, socket: Duplex): void {
    socket.destroy();
    this.#fail('invalid', new Error('the authorization service changed the protocol'));
    this.#end();
  }

  onResponseStart(_controller: DispatchController, status: number, headers: ResponseHeaders): void {
    if (status < 200 || this.#over) return;
    if (status >= 500) this.#fail(`status_${status}`, new Error(`the authorization service answered ${status}`));
    else if (status === 304 || speaksGrpc(headers))
      this.#fail('invalid', new Error(`the authorization service answered ${status}, which says neither yes nor no`));
    else if (status < 300) this.#settle({ kind: 'granted', headers });
    else this.#refusal = { status, headers };
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    if (this.#over) return;
    this.#bytes += chunk.length;
    if (this.#bytes > ANSWER_BYTES) this.#cut(new Error('the answer is larger than anyone needs'), 'too_large');
    else if (this.#refusal !== null) this.#body.push(chunk);
  }

  onResponseEnd(): void {
    if (this.#refusal !== null) this.#settle({ kind: 'denied', ...this.#refusal, body: Buffer.concat(this.#body) });
    this.#end();
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.#cut(error, reasonOf(error));
  }

  #cut(error: Error, reason: string): void {
    if (this.#refusal === null) this.#fail(reason, error);
    else this.#settle({ kind: 'denied', ...this.#refusal, body: null });
    this.#stop(error);
  }

  #stop(reason: Error): void {
    const controller = this.#controller;
    this.#end();
    controller?.abort(reason);
  }

  #end(): void {
    this.#over = true;
    this.#controller = null;
    this.#body = [];
    clearTimeout(this.#timer);
  }

  #fail(reason: string, error: Error): void {
    this.#settle({ kind: 'failed', reason, error });
  }

  #settle(outcome: Outcome): void {
    const tell = this.#tell;
    this.#tell = null;
    tell?.(outcome);
  }
}

/** A refusal in gRPC has status 200. */
function speaksGrpc(headers: ResponseHeaders): boolean {
  return 'grpc-status' in headers || /^application\/grpc/i.test(String(headers['content-type'] ?? ''));
}

/** Of the transport's codes, which are a closed set. */
function reasonOf(error: Error): string {
  const { code } = error as { code?: unknown };
  if (typeof code !== 'string' || !code.startsWith('SLV_')) return 'failed';
  return /TIMEOUT|DEADLINE/.test(code) ? 'timeout' : code.slice('SLV_'.length).toLowerCase();
}

// Asks an endpoint by a GET whose status says it, on a connection of its own: neither waiting behind traffic nor keeping its connections warm.
import type { HealthCheckPolicy } from '../../config/model.ts';
import type { DispatchController, DispatchHandler, DispatchOptions, ResponseHeaders } from '../../dispatch.ts';
import { SelvedgeError } from '../../errors.ts';
import { Endpoint, type MakeTransport } from '../endpoint.ts';
import type { HealthOwner } from '../endpoint-health.ts';
import { failureDetail, MAX_ANSWER_BYTES, type Probe, type ProbeDone, USER_AGENT } from './probe.ts';

type HttpCheck = Extract<HealthCheckPolicy['probe'], { kind: 'http' }>;

/** What the probe itself finds out is the check's to tell. */
const NOBODY: HealthOwner = { healthChanged() {} };

/**
 * The connection is kept for the next check as long as the idle timeout of the service lets it. One that the endpoint has
 * closed meanwhile says nothing about its health: the transport then sends the GET once more itself.
 *
 * @param headers name, value, name, value …: what a hop has to know
 */
export function httpProbe(
  endpoint: Endpoint,
  { path, host, statuses }: HttpCheck,
  makeTransport: MakeTransport,
  headers: readonly string[],
): Probe {
  const { address, hop, tls, connections, key } = endpoint;
  // One may wait: the connection rests a moment after a response that announced a body where none may be.
  const single = { ...connections, max: 1, pending: 1 };
  const asked = new Endpoint(
    { address, hop, tls, connections: single, key: `${key} health check`, owner: NOBODY },
    makeTransport,
  );
  const accepted = new Set(statuses);
  let current: HttpAnswer | null = null;

  return {
    begin(done) {
      const answer = new HttpAnswer(accepted, (healthy, detail) => {
        current = null;
        done(healthy, detail);
      });
      current = answer;
      asked.dispatch(request(path, ['host', host ?? address, 'user-agent', USER_AGENT, ...headers]), answer);
    },
    abort() {
      current?.breakOff();
      current = null;
    },
    close() {
      current?.breakOff();
      current = null;
      asked.destroy();
    },
  };
}

function request(path: string, headers: string[]): DispatchOptions {
  return {
    method: 'GET',
    path,
    headers,
    body: null,
    contentLength: null,
    upgrade: null,
    expectContinue: false,
    rawOnly: true,
  };
}

class HttpAnswer implements DispatchHandler {
  readonly #accepted: ReadonlySet<number>;
  /** Null once it was called, or nobody is interested any more. */
  #done: ProbeDone | null;
  #controller: DispatchController | null = null;
  #status = 0;
  #bytes = 0;

  constructor(accepted: ReadonlySet<number>, done: ProbeDone) {
    this.#accepted = accepted;
    this.#done = done;
  }

  breakOff(): void {
    this.#done = null;
    this.#abort();
  }

  onRequestStart(controller: DispatchController): void {
    this.#controller = controller;
    if (this.#done === null) this.#abort();
  }

  onResponseStart(_controller: DispatchController, statusCode: number, _headers: ResponseHeaders): void {
    if (statusCode < 200) return;
    this.#status = statusCode;
    // What else it has to say changes nothing.
    if (!this.#accepted.has(statusCode)) this.#decide(false, `status ${statusCode}`);
  }

  onResponseData(_controller: DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_ANSWER_BYTES) this.#decide(true, `status ${this.#status}`);
  }

  onResponseEnd(): void {
    this.#controller = null;
    this.#decide(true, `status ${this.#status}`);
  }

  onResponseError(_controller: DispatchController | null, error: Error): void {
    this.#controller = null;
    this.#decide(false, failureDetail(error));
  }

  #decide(healthy: boolean, detail: string): void {
    const done = this.#done;
    this.#done = null;
    this.#abort();
    done?.(healthy, detail);
  }

  /** Does nothing after the end. */
  #abort(): void {
    const controller = this.#controller;
    this.#controller = null;
    controller?.abort(new SelvedgeError('SLV_CLIENT_ABORTED', 'the health check is over'));
  }
}

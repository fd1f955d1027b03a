// What tracing itself costs a request, without network and chain: `node bench/tracing.ts`. The figures in docs/tracing.md are from here.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Propagation } from '../src/plugins/tracing/propagation.ts';
import { RequestTrace } from '../src/plugins/tracing/request-trace.ts';

const ROUNDS = 7;
const REQUESTS = 100_000;
/** Requests whose headers are made ahead, outside the clock. */
const AHEAD = 1_000;

const propagation = new Propagation(['w3c']);
let written = 0;
const settings = {
  propagation,
  sink: (span: string): void => {
    written += span.length;
  },
};
const common = { host: 'shop.example.com', 'user-agent': 'curl/8', accept: '*/*', 'x-request-id': 'abcdefgh1' };
const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00';
const reply = { statusCode: 200, raw: { headersSent: true } } as unknown as FastifyReply;
const attempt = { endpoint: '127.0.0.1:3000', outcome: 'ok', status: 200, durationMs: 1 };
const selvedge = {
  id: 'abcdefgh1',
  role: 'gateway',
  owner: 'public',
  listener: 'http',
  scheme: 'http',
  host: 'shop.example.com',
  path: '/orders/1',
  clientAddress: '192.0.2.1',
  peer: null,
  route: { name: 'orders', matchedPrefix: '/' },
  service: 'orders',
  subset: null,
  endpoint: '127.0.0.1:3000',
  attempts: [attempt],
  startedAt: performance.now(),
  reason: null,
};

type Headers = Record<string, string>;

/** Microseconds a request, the best of the rounds. */
function measure(name: string, headers: Headers, once: (headers: Headers) => void): void {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    let spentMs = 0;
    for (let done = 0; done < REQUESTS; done += AHEAD) {
      const all = Array.from({ length: AHEAD }, () => ({ ...headers }));
      const startedAt = performance.now();
      for (const each of all) once(each);
      spentMs += performance.now() - startedAt;
    }
    best = Math.min(best, (spentMs / REQUESTS) * 1_000);
  }
  console.log(`${name.padEnd(44)} ${best.toFixed(2)} µs`);
}

const never = { share: 0, trustParent: true, random: Math.random };
const always = { ...never, share: 1 };

measure('not sampled, the trace begins here', common, (headers) => void propagation.begin(headers, never));
measure('not sampled, the trace comes with the request', { ...common, traceparent }, (headers) => {
  propagation.begin(headers, never);
});
measure('sampled: two spans, written out', common, (headers) => {
  const request = { method: 'GET', headers, raw: { httpVersion: '1.1' }, selvedge } as unknown as FastifyRequest;
  const trace = new RequestTrace(propagation.begin(headers, always), settings);
  trace.attempt(request, { method: 'GET', path: '/orders/1', origin: 'http://127.0.0.1:3000' }).end(attempt);
  trace.end(request, reply);
});
console.log(`${written} characters of spans`);

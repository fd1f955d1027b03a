// Asks an authorization service over HTTP whether a request may pass, before it goes anywhere. Without an answer it does not pass.
import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { definePlugin, parseDurationMs, parseSizeBytes, SelvedgeError } from '../plugin.ts';
import { Check, type Outcome } from './ext-authz/check.ts';
import { Flight, type Grant, Grants } from './ext-authz/grants.ts';
import { answerHeaders, nameTest } from './ext-authz/header-names.ts';
import { ExtAuthzOptions, extAuthzProblems, REPLACED, upstreamNames } from './ext-authz/options.ts';
import { asker, goesRound, type Question } from './ext-authz/question.ts';
import { refusal, refusalHeaders, unavailable } from './ext-authz/refusal.ts';
import { openReports } from './ext-authz/reports.ts';
import { KeptBody, readWhole } from './ext-authz/whole-body.ts';
import { digestOf } from './jwt/shared-state.ts';

type Done = (error?: Error) => void;

export default definePlugin(
  {
    name: 'ext-authz',
    options: ExtAuthzOptions,
    check: extAuthzProblems,
    references: ({ service, subset = null }) => [{ service, subset, path: 'service' }],
    identityHeaders: (options) => upstreamNames(options).filter((name) => name !== REPLACED),
  },
  async (app, options) => {
    const { service, subset = null, onFailure, withBody, cache } = options;
    const { role, owner } = app.chain;
    if (role === 'inbound' && owner === service)
      throw new Error(`service "${service}" would be asked about every question that it is asked itself`);
    const timeoutMs = parseDurationMs(options.timeout) as number;
    const questionOf = asker(options);
    const toService = upstreamNames(options);
    const toServiceTest = nameTest(toService);
    const toClient = nameTest(options.allowedClientHeadersOnSuccess);
    const toRefused = refusalHeaders(options.allowedClientHeaders);
    const reports = openReports(app, service, onFailure);
    const flights = new Map<string, Flight>();
    const grants =
      cache === undefined
        ? null
        : app.shared(`ext-authz grants ${role} ${owner} ${digestOf(options)}`, () => {
            return new Grants(parseDurationMs(cache.ttl) as number, cache.maxEntries, Date.now);
          });
    /** What ends the waiting of a request whose client leaves. */
    const waiting = new WeakMap<FastifyRequest, () => void>();

    function ask(question: Question, body: Buffer | null): Flight {
      const flight = new Flight();
      const begun = performance.now();
      const check = new Check(timeoutMs, (outcome) => {
        flights.delete(question.key);
        reports.took(performance.now() - begun);
        if (outcome.kind === 'failed') reports.failing(outcome.reason, outcome.error);
        else reports.failing(null, null);
        flight.land(outcome);
      });
      flight.abandon = () => {
        flights.delete(question.key);
        check.abandon();
      };
      if (grants !== null) flights.set(question.key, flight);
      const { method, path, headers } = question;
      try {
        const contentLength = body === null ? null : body.length;
        app.upstream.send(service, subset, { method, path, headers, body, contentLength, timeoutMs }, check);
      } catch (error) {
        check.onResponseError(null, error as Error);
      }
      return flight;
    }

    function decide(request: FastifyRequest, reply: FastifyReply, body: Buffer | null, done: Done): void {
      const question = questionOf(request, body !== null);
      const known = grants?.get(question.key) ?? null;
      if (known !== null) {
        reports.counted('cached');
        pass(request, reply, known);
        done();
        return;
      }
      const leftMs = request.selvedge.deadlineAt - performance.now();
      const timer = leftMs < timeoutMs ? setTimeout(late, Math.max(0, leftMs)) : null;
      const flight = (grants === null ? undefined : flights.get(question.key)) ?? ask(question, body);
      const leave = flight.wait((outcome) => {
        if (timer !== null) clearTimeout(timer);
        waiting.delete(request);
        done(judge(request, reply, question, outcome));
      });
      waiting.set(request, () => {
        if (timer !== null) clearTimeout(timer);
        reports.counted('aborted');
        leave();
      });

      function late(): void {
        waiting.delete(request);
        leave();
        reports.counted('failed_closed');
        request.selvedge.because = 'ext_authz_deadline';
        done(
          new SelvedgeError('SLV_DEADLINE_EXCEEDED', 'ext-authz: the deadline of the request passed before an answer'),
        );
      }
    }

    function judge(
      request: FastifyRequest,
      reply: FastifyReply,
      { key }: Question,
      outcome: Outcome,
    ): SelvedgeError | undefined {
      const { selvedge } = request;
      if (outcome.kind === 'granted') {
        const { headers } = outcome;
        const grant = { upstream: answerHeaders(headers, toServiceTest), client: answerHeaders(headers, toClient) };
        grants?.keep(key, grant, headers);
        reports.counted('allowed');
        pass(request, reply, grant);
        return undefined;
      }
      selvedge.decidedBy = 'ext-authz';
      if (outcome.kind === 'denied') {
        selvedge.because = 'ext_authz_denied';
        reports.counted('denied');
        return refusal(outcome, toRefused);
      }
      selvedge.because = `ext_authz_${outcome.reason}`;
      if (onFailure === 'deny') {
        reports.counted('failed_closed');
        return unavailable(outcome);
      }
      reports.counted('failed_open');
      pass(request, reply, { upstream: {}, client: {} });
      return undefined;
    }

    function pass(request: FastifyRequest, reply: FastifyReply, { upstream, client }: Grant): void {
      for (const name of toService) {
        if (Object.hasOwn(upstream, name)) request.headers[name] = upstream[name];
        else delete request.headers[name];
      }
      reply.headers(client);
    }

    app.addHook('onRequest', (request, reply, done) => {
      // Refused before a route was chosen: that answer says more than ours would.
      if (request.selvedge.route === null) done();
      else if (goesRound(request, service))
        done(
          new SelvedgeError('SLV_LOOP_DETECTED', `ext-authz: "${service}" is being asked about this request already`),
        );
      else if (withBody === undefined || !hasBody(request)) decide(request, reply, null, done);
      else done();
    });
    app.addHook('onResponse', (request, _reply, done) => {
      waiting.get(request)?.();
      done();
    });
    if (withBody === undefined) return;
    const maxBytes = parseSizeBytes(withBody.maxBytes) as number;
    const bodyTimeoutMs = parseDurationMs(withBody.timeout) as number;
    app.addHook('preParsing', async (request, reply, payload: Readable) => {
      if (request.selvedge.route === null || !hasBody(request)) return payload;
      if (request.headers.expect !== undefined) reply.raw.writeContinue();
      const body = await readWhole(payload, maxBytes, bodyTimeoutMs);
      await new Promise<void>((resolve, reject) => {
        decide(request, reply, body, (error) => (error === undefined ? resolve() : reject(error)));
      });
      return new KeptBody(body, request.raw.rawTrailers);
    });
  },
);

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

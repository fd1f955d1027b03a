// Asks the policies of a service or gateway whether a request may pass: once, after whatever verifies claims, before it goes anywhere.
import type { FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import { Counter, definePlugin, SelvedgeError, Type } from '../plugin.ts';
import { type AuthorizationRules, authorize, compileAuthorization, type Verdict } from '../policies/authorization.ts';
import { SEEN_REQUESTS, SeenRequests } from '../policies/seen-requests.ts';
import { finalStatus } from './final-status.ts';
import { collectInto, SeriesBudget, SeriesTable, type Tally, tally } from './series.ts';

const TOTAL = 'selvedge_authorization_total';
const LABELS = ['target', 'policy', 'verdict'] as const;
/** Names of policies come from configs, and a process may see many of those. */
const MAX_SERIES = 10_000;

export default definePlugin(
  {
    name: 'authorization',
    options: Type.Object({
      target: Type.String({ description: 'Whose policies they are: `service orders`.' }),
      policies: Type.Unsafe<readonly AuthorizationRules[]>({
        type: 'array',
        description: 'The policies of `authorization` that select it.',
      }),
    }),
  },
  async (app, { target, policies }) => {
    const authorization = compileAuthorization(target, policies);
    const series = app.shared(
      'authorization counters',
      () => makeCounters(app.metrics),
      (made) => made.dispose(),
    ).table;
    const seen = policies.some(({ audit }) => audit) ? app.shared(SEEN_REQUESTS, () => new SeenRequests()) : null;
    const tallies = new Map<Verdict, Tally>();

    function count(verdict: Verdict): void {
      let counted = tallies.get(verdict);
      if (counted === undefined) {
        counted = series.get([target, verdict.policy ?? '', verdict.verdict]);
        tallies.set(verdict, counted);
      }
      counted.pending++;
    }

    // In preHandler: whatever verifies claims has run, wherever it stands in the list.
    app.addHook('preHandler', (request, _reply, done) => {
      const exchange = request.selvedge;
      // Refused before a route was chosen: that answer says more than ours would, and nothing is sent anywhere.
      if (exchange.route === null) {
        done();
        return;
      }
      const { peer, path, host, clientAddress } = exchange;
      const { user: claims } = request as FastifyRequest & { readonly user?: unknown };
      const { method, headers } = request;
      const verdict = authorize(authorization, { peer, method, path, host, headers, claims, clientAddress });
      exchange.authorization = verdict;
      count(verdict);
      if (verdict.verdict === 'denied') done(new SelvedgeError('SLV_FORBIDDEN', `denied by ${verdict.policy}`));
      else done();
    });

    if (seen === null) return;
    app.addHook('onResponse', (request, reply, done) => {
      const { authorization: told, peer, path } = request.selvedge;
      if (told?.verdict === 'audit_denied') {
        // A name that is no SPIFFE id is nothing that a policy could name.
        const caller = peer === null || peer.trustDomain === null ? null : peer.id;
        const status = finalStatus(request, reply);
        seen.add({ target, caller, method: request.method, path, status, policy: told.policy });
      }
      done();
    });
  },
);

function makeCounters(registry: Registry) {
  const table = new SeriesTable(new SeriesBudget(MAX_SERIES), tally(LABELS), () => {});
  new Counter({
    name: TOTAL,
    help: 'Requests that authorization policies were asked about, by what they said',
    labelNames: LABELS,
    registers: [registry],
    collect() {
      collectInto(this, table);
    },
  });
  return { table, dispose: () => registry.removeSingleMetric(TOTAL) };
}

// Lets requests in, or turns them away, by where they come from: first what is denied, then what is allowed.
import { AddressSet, isCidr } from '../http/address.ts';
import { Counter, definePlugin, SelvedgeError, Type } from '../plugin.ts';

const TOTAL = 'selvedge_ip_rules_total';
/** A request is held against a list from its top: 10,000 networks take about 20 µs. */
const MAX_NETWORKS = 10_000;

const networks = (description: string) =>
  Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: MAX_NETWORKS, description }));

export default definePlugin(
  {
    name: 'ip-rules',
    unrouted: true,
    options: Type.Object({
      allow: networks('Addresses and networks that may pass; nobody else may then. Default: everybody.'),
      deny: networks('Addresses and networks that may not pass, whatever `allow` says. Default: none.'),
    }),
    check: ({ allow = [], deny = [] }) => [
      ...(allow.length + deny.length === 0
        ? [{ path: '', message: 'does nothing: it needs "allow", "deny" or both' }]
        : []),
      ...Object.entries({ allow, deny }).flatMap(([list, entries]) =>
        entries.flatMap((entry, index) =>
          isCidr(entry)
            ? []
            : [
                {
                  path: `${list}[${index}]`,
                  message: `"${entry}" is no address or network: write 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32`,
                },
              ],
        ),
      ),
      ...inBoth(allow, new Set(deny)),
    ],
  },
  async (app, { allow, deny = [] }) => {
    const { owner } = app.chain;
    const allowed = allow === undefined ? null : new AddressSet(allow);
    const denied = new AddressSet(deny);
    const total = app.shared(
      'ip-rules metrics',
      () =>
        new Counter({
          name: TOTAL,
          help: 'Requests that were held against ip-rules, by what those said of their address',
          labelNames: ['owner', 'verdict'],
          registers: [app.metrics],
        }),
      () => app.metrics.removeSingleMetric(TOTAL),
    );

    app.addHook('onRequest', (request, _reply, done) => {
      const { clientAddress } = request.selvedge;
      const verdict = denied.has(clientAddress)
        ? 'denied'
        : allowed === null || allowed.has(clientAddress)
          ? 'allowed'
          : 'not_allowed';
      total.inc({ owner, verdict });
      if (verdict === 'allowed') {
        done();
        return;
      }
      request.selvedge.decidedBy = 'ip-rules';
      done(
        new SelvedgeError('SLV_FORBIDDEN', `${clientAddress} is ${verdict === 'denied' ? 'denied' : 'not allowed'}`),
      );
    });
  },
);

function inBoth(allow: readonly string[], deny: ReadonlySet<string>) {
  return allow.flatMap((entry, index) =>
    deny.has(entry) ? [{ path: `allow[${index}]`, message: `"${entry}" is denied too, which comes first` }] : [],
  );
}

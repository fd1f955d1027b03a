// Says who the other end of the connection is, as far as its certificate proves it: `request.peer`, and x-forwarded-client-cert for the service.
import { Counter, definePlugin, type Peer, SelvedgeError, Type } from '../plugin.ts';

const PLAINTEXT = 'selvedge_plaintext_requests_total';
const HEADER = 'x-forwarded-client-cert';

export default definePlugin(
  {
    name: 'mtls',
    options: Type.Object({
      require: Type.Boolean({
        default: false,
        description: 'Answer 403 to whoever showed no certificate that was verified.',
      }),
      callers: Type.Record(Type.String(), Type.String(), {
        default: {},
        description: 'Names for client addresses in the metric of plain requests; others are `unknown`.',
      }),
      countPlain: Type.Boolean({ default: false, description: `Count requests without TLS in \`${PLAINTEXT}\`.` }),
    }),
    // A stranger's word for who he is never gets past this plugin.
    identityHeaders: () => [HEADER],
  },
  async (app, { require, callers, countPlain }) => {
    const { owner } = app.chain;
    app.decorateRequest('peer', {
      getter(): Peer | null {
        return this.selvedge.peer;
      },
    });
    const plaintext = countPlain
      ? app.shared(
          'mtls plaintext',
          () =>
            new Counter({
              name: PLAINTEXT,
              help: 'Requests that came to a hop without TLS, while mtls is permissive, by who sent them as far as addresses tell',
              labelNames: ['service', 'caller'],
              registers: [app.metrics],
            }),
          () => app.metrics.removeSingleMetric(PLAINTEXT),
        )
      : null;

    app.addHook('onRequest', (request, _reply, done) => {
      const { peer, scheme, clientAddress } = request.selvedge;
      if (peer !== null) request.headers[HEADER] = descriptionOf(peer);
      else if (scheme === 'http') plaintext?.inc({ service: owner, caller: callers[clientAddress] ?? 'unknown' });
      if (require && peer === null)
        done(new SelvedgeError('SLV_FORBIDDEN', 'the client showed no certificate that was verified'));
      else done();
    });
  },
);

/** A peer is one connection's, and sends many requests. */
const descriptions = new WeakMap<Peer, string>();

function descriptionOf(peer: Peer): string {
  let description = descriptions.get(peer);
  if (description === undefined) {
    description = describe(peer);
    descriptions.set(peer, description);
  }
  return description;
}

/** The elements that Envoy puts there: hash of the certificate, subject, URI SAN where its trust domain is proven. */
function describe({ id, trustDomain, subject, fingerprint256 }: Peer): string {
  const hash = fingerprint256.replaceAll(':', '').toLowerCase();
  const quoted = subject.replaceAll('\n', ',').replace(/["\\]/g, '\\$&');
  const uri = trustDomain !== null ? `;URI=${id}` : '';
  return `Hash=${hash};Subject="${quoted}"${uri}`;
}

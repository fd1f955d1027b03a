// Sends plain requests to https, where TLS ends at a load balancer in front; and tells browsers to begin there the next time.
import { httpsLocation, permanentStatus } from '../http/https-location.ts';
import { normalizeWrittenPath } from '../http/path.ts';
import { Counter, definePlugin, type OptionProblem, SelvedgeError, Type } from '../plugin.ts';
import { cameByHttps, hstsOption, hstsProblems, hstsValue } from './hsts.ts';

const TOTAL = 'selvedge_https_redirects_total';
const HSTS = 'strict-transport-security';

export default definePlugin(
  {
    name: 'https-redirect',
    options: Type.Object({
      port: Type.Integer({
        default: 443,
        minimum: 1,
        maximum: 65_535,
        description: 'The port where clients reach https; 443 is left out of the address.',
      }),
      except: Type.Array(Type.String(), {
        default: [],
        maxItems: 1_000,
        description:
          'Paths, by whole segments, that are served over plain HTTP too: health checks of the load balancer. `[/healthz]`.',
      }),
      hsts: hstsOption,
    }),
    check: ({ except, hsts }) => [...except.flatMap(exceptProblems), ...hstsProblems(hsts)],
    unrouted: true,
  },
  async (app, { port, except, hsts }) => {
    const { owner } = app.chain;
    const free = except.map((path) => normalizeWrittenPath(path)?.path.replace(/\/$/, '') as string);
    const strict = hstsValue(hsts);
    const total = app.shared(
      'https-redirect metrics',
      () =>
        new Counter({
          name: TOTAL,
          help: 'Requests that came by plain HTTP and were sent to https',
          labelNames: ['owner'],
          registers: [app.metrics],
        }),
      () => app.metrics.removeSingleMetric(TOTAL),
    );

    app.addHook('onRequest', (request, reply, done) => {
      const { selvedge, method } = request;
      const { route, host, path, query } = selvedge;
      // What no route takes is refused as it would be over https: nothing tells that a host is served which is not.
      if (route === null || cameByHttps(request) || free.some((one) => path === one || path.startsWith(`${one}/`))) {
        done();
        return;
      }
      if (host === '') {
        done(new SelvedgeError('SLV_BAD_HOST', 'https-redirect: a request without a Host cannot be sent to https'));
        return;
      }
      total.inc({ owner });
      selvedge.because = 'sent_to_https';
      reply
        .code(permanentStatus(method))
        .header('location', httpsLocation(host, port, path, query))
        .send();
    });

    if (strict === null) return;
    app.addHook('onSend', (request, reply, payload, done) => {
      // RFC 6797 section 7.2: never over plain HTTP.
      if (cameByHttps(request) && !reply.hasHeader(HSTS)) reply.header(HSTS, strict);
      done(null, payload);
    });
  },
);

function exceptProblems(path: string, index: number): OptionProblem[] {
  const normal = path.startsWith('/') ? normalizeWrittenPath(path) : null;
  if (normal !== null && normal.path !== '/') return [];
  const message =
    normal === null ? `"${path}" is not a path such as /healthz` : 'would serve everything over plain HTTP';
  return [{ path: `except[${index}]`, message }];
}

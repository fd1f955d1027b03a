// `selvedge explain`: where one request would go and why, offline, by the table that would serve it.
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { formatProblem } from '../config/problem.ts';
import { gatewayListeners } from '../gateway/gateway.ts';
import { formatHostPort } from '../http/address.ts';
import { splitTarget } from '../http/path.ts';
import { hopListeners } from '../internal/internal.ts';
import { type AskedRequest, type ExplainedListener, explainRequest } from '../routing/explanation.ts';
import { listenerScope } from '../runtime/listener-scope.ts';
import type { ListenerSpec } from '../runtime/listener-spec.ts';
import { type Command, type CommandInput, EXIT, UsageError } from './command.ts';
import { configPath } from './config-option.ts';
import { withAuthorization } from './explain-authorization.ts';
import { withEgress } from './explain-egress.ts';
import { explanationText } from './explain-text.ts';
import { withUnrouted } from './explain-unrouted.ts';
import { readHeaders } from './header-option.ts';

export const command: Command = {
  name: 'explain',
  summary: 'Say where a request would go and why, offline',
  help: `selvedge explain METHOD URL [-c PATH] [-H 'name: value']… [--gateway NAME | --internal SERVICE] [--listener NAME] [--json]

  METHOD URL            GET https://shop.example.com/orders/1?x=y, or GET /orders/1 with -H 'host: …'
  -c, --config PATH     config file or directory; default ./selvedge.yaml, ./selvedge.config.ts, then ./config/
  -H, --header LINE     a request header; may be repeated
  --gateway NAME        the gateway that gets the request; default: the one with a listener for the URL's port and scheme
  --internal SERVICE    a call that this service makes through its hop
  --listener NAME       the listener of the gateway; with --internal: outbound (default), inbound, or the service of a local port
  --json                the whole explanation as JSON

Prints the listener, the routes in order of precedence with the first condition that failed in each, the chosen route with
its chain, services, endpoints, timeouts and retries, or what is answered instead and by way of which plugins; and what authorization policies say of it
on its way (selvedge authz asks them with claims, a client address or another caller).

Exit codes: 0 a route takes the request or it may leave the mesh, 1 none does (404) or the request is refused (400, 403), 2 wrong usage, 3 the config has errors.`,
  options: {
    config: { type: 'string', short: 'c' },
    header: { type: 'string', short: 'H', multiple: true },
    gateway: { type: 'string' },
    internal: { type: 'string' },
    listener: { type: 'string' },
    json: { type: 'boolean' },
  },
  async run(input, io) {
    const question = readQuestion(input);
    const path = configPath('explain', { ...input, positionals: [] }, io);
    const { config, problems } = await loadConfig(path, { env: io.env, cwd: io.cwd });
    if (config === null) {
      for (const problem of problems) io.stderr.write(`${formatProblem(problem)}\n`);
      return EXIT.couldNotStart;
    }
    const spec = chooseListener(config, question);
    const routed = explainRequest(config, listenerOf(config, spec), question.asked);
    const leaving = withEgress(routed, config, spec, question.asked, question.scheme);
    const judged = withAuthorization(leaving, config, spec, question.asked);
    const explanation = await withUnrouted(judged, config, spec);
    io.stdout.write(
      input.values.json === true ? `${JSON.stringify(explanation, null, 2)}\n` : explanationText(explanation),
    );
    return explanation.refused === null ? EXIT.good : EXIT.checkFailed;
  },
};

interface Question {
  readonly asked: AskedRequest;
  readonly scheme: 'http' | 'https';
  /** Null for a URL that is a path alone. */
  readonly port: number | null;
  readonly gateway: string | null;
  readonly internal: string | null;
  readonly listener: string | null;
}

function readQuestion({ values, positionals }: CommandInput): Question {
  const [method, url, extra] = positionals;
  if (method === undefined || url === undefined) {
    throw new UsageError('explain needs a method and a URL: selvedge explain GET http://shop.example.com/orders');
  }
  if (extra !== undefined) throw new UsageError(`explain takes no third argument "${extra}"`);
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method)) throw new UsageError(`"${method}" is no HTTP method`);
  if (values.gateway !== undefined && values.internal !== undefined) {
    throw new UsageError('explain takes --gateway or --internal, not both');
  }
  const target = splitTarget(url.startsWith('/') || url.includes('://') ? url : `http://${url}`);
  if (target === null) throw new UsageError(`"${url}" is no http or https URL without a fragment, and no path`);
  const headers = readHeaders((values.header ?? []) as readonly string[]);
  const authority = headers.host ?? target.authority ?? '';
  const scheme = target.scheme === 'https' ? 'https' : 'http';
  const written = target.authority === null ? null : /:(\d+)$/.exec(target.authority);
  const port =
    target.authority === null ? null : written === null ? (scheme === 'https' ? 443 : 80) : Number(written[1]);
  return {
    asked: {
      method: method.toUpperCase(),
      authority,
      path: target.path,
      query: target.query,
      headers: authority === '' ? headers : { ...headers, host: authority },
    },
    scheme,
    port,
    gateway: (values.gateway as string | undefined) ?? null,
    internal: (values.internal as string | undefined) ?? null,
    listener: (values.listener as string | undefined) ?? null,
  };
}

function chooseListener(config: Config, question: Question): ListenerSpec {
  return question.internal === null
    ? chooseEdge(config, question)
    : chooseHop(config, question.internal, question.listener);
}

/** The listener for the URL's port and scheme; else the first of its scheme; else the first. */
function chooseEdge(config: Config, { gateway, listener, scheme, port }: Question): ListenerSpec {
  const names = config.gateways.map(({ name }) => name);
  if (names.length === 0) throw new UsageError('the config has no gateway: ask for a hop by --internal SERVICE');
  if (gateway !== null && !names.includes(gateway)) {
    throw new UsageError(`no gateway "${gateway}"; there are: ${names.join(', ')}`);
  }
  const all = names
    .filter((name) => gateway === null || name === gateway)
    .flatMap((name) => gatewayListeners(config, name));
  const specs = all.filter(({ name }) => listener === null || name === listener);
  if (specs.length === 0)
    throw new UsageError(`no listener "${listener}"; there are: ${all.map(({ name }) => name).join(', ')}`);
  const sameScheme = specs.filter(({ tls }) => (tls !== null) === (scheme === 'https'));
  return sameScheme.find((spec) => spec.port === port) ?? sameScheme[0] ?? specs[0];
}

function chooseHop(config: Config, service: string, listener: string | null): ListenerSpec {
  const specs = hopListeners(config, service);
  if (specs.length === 0)
    throw new UsageError(`no service "${service}" with a hop (services.${service}.internal) in the config`);
  const wanted = listener ?? 'outbound';
  const found = specs.find(({ name }) => name === wanted);
  if (found === undefined) {
    throw new UsageError(
      `the hop of "${service}" has no listener "${wanted}"; it has: ${specs.map(({ name }) => name).join(', ')}`,
    );
  }
  if (found.protocol === 'tcp')
    throw new UsageError(`listener "${wanted}" passes on TCP as it is: there are no requests to explain`);
  return found;
}

/** The listener with its routes and the chain they inherit, as the runtime compiles it. */
function listenerOf(config: Config, spec: ListenerSpec): ExplainedListener {
  const { role, owner, name, fixedService } = spec;
  const { layers, routes } = listenerScope(config, spec);
  return {
    role,
    owner,
    name,
    address: formatHostPort(spec.host, spec.port),
    scheme: spec.tls === null ? 'http' : 'https',
    routes,
    layers,
    fixedService,
    ...(spec.redirect === undefined ? {} : { redirect: spec.redirect }),
  };
}

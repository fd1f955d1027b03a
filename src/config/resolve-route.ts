// Resolves one route: what it matches and what it does.
import { formatHostPort, parseHost, parseHostPort } from '../http/address.ts';
import { normalizePath } from '../http/path.ts';
import type { CompleteConfig, CompleteRoute } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { resolveHeaderChanges, resolveHeaders } from './header-names.ts';
import { keyPlugins } from './key-plugins.ts';
import type { Action, Backend, Match, Redirect, Rewrite, RouteConfig } from './model.ts';
import { pluginUses } from './plugin-uses.ts';
import { resolveHost, resolveMatch } from './resolve-match.ts';
import { resolveHedge, resolveRetry, resolveTimeouts } from './resolve-retry.ts';
import { resolveRollout } from './resolve-rollout.ts';
import { resolveSession } from './resolve-session.ts';
import { bytes } from './units.ts';

export function resolveRoute(route: Cursor<CompleteRoute>, config: Cursor<CompleteConfig>): RouteConfig {
  const keepEncodedSlashes = route.at('encodedSlashes').filled().value === 'keep';
  const matches = route
    .at('match')
    .filled()
    .items()
    .map((match) => resolveMatch(match, keepEncodedSlashes));
  const internal = route.value.internal ?? [];
  const action = resolveAction(route, matches);
  const timeouts = resolveTimeouts(route.at('timeout').filled());
  return {
    name: route.value.name,
    at: route.place,
    gateways: internal.length > 0 ? [] : (route.value.gateways ?? Object.keys(config.value.gateways ?? {})),
    internal,
    listeners: route.value.listeners ?? null,
    hosts: [
      ...new Set(
        route
          .at('hosts')
          .filled()
          .items()
          .map((host) => resolveHost(host)),
      ),
    ],
    matches,
    plugins: [...pluginUses('route', route.at('plugins').items()), ...keyPlugins(route, config, action)],
    action,
    rewrite: resolveRewrite(route.at('rewrite').given(), matches),
    requestHeaders: resolveHeaderChanges(route.at('requestHeaders').given(), 'request'),
    responseHeaders: resolveHeaderChanges(route.at('responseHeaders').given(), 'response'),
    timeouts,
    retry: resolveRetry(route.at('retry').given(), timeouts),
    hedge: resolveHedge(route.at('hedge').given(), timeouts, matches),
    session: resolveSession(route.at('session').given()),
    rollout: resolveRollout(route.at('rollout').given(), action),
    bodyBytes: bytes(route.at('bodyBytes').filled()),
    keepEncodedSlashes,
  };
}

/** `rollout` is not among them: it is refused. */
const FORWARDING_KEYS = [
  ...(['rewrite', 'requestHeaders', 'timeout'] as const),
  ...(['retry', 'hedge', 'session', 'mirror', 'fault'] as const),
] as const;

function resolveAction(route: Cursor<CompleteRoute>, matches: readonly Match[]): Action {
  const to = route.at('to').given();
  const redirect = route.at('redirect').given();
  const respond = route.at('respond').given();
  const actions = [to, redirect, respond].filter((action) => action !== null);
  if (actions.length === 0) route.error('leads nowhere: it needs one of "to", "redirect" and "respond"');
  for (const extra of actions.slice(1)) extra.error('a route has one of "to", "redirect" and "respond", not several');
  if (to === null) {
    for (const key of FORWARDING_KEYS) {
      const unused = route.at(key).given();
      if (unused !== null && actions.length === 1 && route.wrote(key))
        unused.warn('has no effect on a route without "to"');
    }
  }
  if (redirect !== null) return { kind: 'redirect', redirect: resolveRedirect(redirect, matches) };
  if (respond !== null) return { kind: 'respond', respond: resolveRespond(respond) };
  const backends = to?.items().map((backend) => resolveBackend(backend, matches)) ?? [];
  if (to !== null && backends.every(({ weight }) => weight === 0))
    to.error('the weights sum to zero, so no request could go anywhere');
  return { kind: 'forward', backends };
}

type BackendInput = NonNullable<CompleteRoute['to']>[number];

function resolveBackend(backend: Cursor<BackendInput>, matches: readonly Match[]): Backend {
  return {
    service: backend.value.service,
    subset: backend.value.subset ?? null,
    weight: backend.at('weight').filled().value,
    rewrite: resolveRewrite(backend.at('rewrite').given(), matches),
    requestHeaders: resolveHeaderChanges(backend.at('requestHeaders').given(), 'request'),
    responseHeaders: resolveHeaderChanges(backend.at('responseHeaders').given(), 'response'),
    at: backend.place,
  };
}

function resolveRedirect(
  redirect: Cursor<NonNullable<CompleteRoute['redirect']>>,
  matches: readonly Match[],
): Redirect {
  const host = redirect.at('host').given();
  const { scheme = null, port = null } = redirect.value;
  if (host !== null && parseHost(host.value) === null)
    host.error(`"${host.value}" is not a host name; the port goes into "port"`);
  const { path, prefix } = resolvePaths(redirect, matches);
  if (scheme === null && port === null && host === null && path === null && prefix === null) {
    redirect.error('would send every request to itself: it needs one of "scheme", "host", "port", "path" and "prefix"');
  }
  return {
    scheme,
    host: host?.value.toLowerCase() ?? null,
    port,
    path,
    prefix,
    status: redirect.at('status').filled().value,
  };
}

function resolveRespond(
  respond: Cursor<NonNullable<CompleteRoute['respond']>>,
): Extract<Action, { kind: 'respond' }>['respond'] {
  const status = respond.at('status').filled().value;
  const body = respond.at('body').filled();
  if (body.value !== '' && (status === 204 || status === 205 || status === 304))
    body.error(`a response with status ${status} has no body`);
  return { status, body: body.value, headers: resolveHeaders(respond.at('headers').filled()) };
}

type RewriteInput = NonNullable<CompleteRoute['rewrite']>;

function resolveRewrite(rewrite: Cursor<RewriteInput> | null, matches: readonly Match[]): Rewrite | null {
  if (rewrite === null) return null;
  const host = rewrite.at('host').given();
  // Without a port there is nothing to format back.
  const parsed = host === null ? null : parseHostPort(host.value, 0);
  if (host !== null && parsed === null) host.error(`"${host.value}" is not a host, with or without a port`);
  const written =
    parsed === null ? null : parsed.port === 0 ? host?.value.toLowerCase() : formatHostPort(parsed.host, parsed.port);
  return { ...resolvePaths(rewrite, matches), host: written ?? null };
}

/** `path` replaces all of the path, `prefix` what a prefix matched. */
function resolvePaths(
  written: Cursor<{ path?: string; prefix?: string }>,
  matches: readonly Match[],
): { path: string | null; prefix: string | null } {
  const path = written.at('path').given();
  const prefix = written.at('prefix').given();
  for (const value of [path, prefix]) {
    if (value !== null && normalizePath(value.value) === null)
      value.error(`"${value.value}" is not a path: it begins with "/" and has no "?", "#" or space`);
  }
  if (path !== null && prefix !== null) prefix.error('replaces a part of what "path" replaces: say one of them');
  else if (prefix !== null && matches.some((match) => match.path.kind !== 'prefix')) {
    prefix.error('needs every match of the route to be a path prefix; there is nothing else that it could replace');
  }
  return { path: path?.value ?? null, prefix: prefix?.value ?? null };
}

// Sticky sessions: leads a client back to its endpoint, and binds it to the one that answered first.
import type { FastifyReply } from 'fastify';
import type { Session } from '../config/model.ts';
import { cookieValue } from '../http/cookies.ts';
import { processSecret } from '../process-secret.ts';
import { maglev } from '../upstream/balancing/maglev.ts';
import { SessionTags, serializeSessionCookie } from '../upstream/balancing/session.ts';
import type { Endpoint } from '../upstream/endpoint.ts';
import type { Service } from '../upstream/service.ts';
import { type KeyedRequest, requestKey } from './request-key.ts';

/** The session of one backend, compiled once a reload. */
export interface BackendSession {
  /** Null: none yet, or its endpoint is gone. */
  endpointFor(request: KeyedRequest): Endpoint | null;
  /** The response of this endpoint is about to go out. */
  bind(request: KeyedRequest, endpoint: Endpoint, reply: FastifyReply): void;
}

export function compileSession(
  session: Session | null,
  service: Service | null,
  subset: string | null,
): BackendSession | null {
  if (session === null || service === null) return null;
  return session.kind === 'cookie' ? byCookie(session, service) : byHeader(session.name, service, subset);
}

/** Over all endpoints, whatever the subset: a client that moves to another version and back finds its endpoint again. */
function byCookie(session: Extract<Session, { kind: 'cookie' }>, { name, endpoints }: Service): BackendSession {
  // Without a secret of their own, cookies hold until the process ends.
  const secret = session.secret === null ? processSecret() : Buffer.from(session.secret);
  const tags = new SessionTags(secret, name, endpoints);
  const given = ({ req }: KeyedRequest): string | null => cookieValue(req.headers.cookie, session.name);
  return {
    endpointFor(request) {
      const tag = given(request);
      return tag === null ? null : tags.endpointOf(tag);
    },
    bind(request, endpoint, reply) {
      const tag = tags.tagOf(endpoint);
      if (tag === null || tag === given(request)) return;
      reply.header('set-cookie', serializeSessionCookie(session, tag, request.scheme === 'https'));
    },
  };
}

/** The same value leads to the same endpoint in every process; a request without the header goes as load balancing says. */
function byHeader(name: string, service: Service, subset: string | null): BackendSession {
  const endpoints = (service.subset(subset) ?? []).filter((endpoint) => service.drawable.includes(endpoint));
  const table = maglev(endpoints.map((endpoint) => ({ endpoint, weight: 1 })));
  return {
    endpointFor(request) {
      if (request.req.headers[name] === undefined) return null;
      const key = requestKey({ kind: 'header', name }, request, service.random);
      const now = service.wheel.now();
      return table.lookup(key, ({ health }) => health.availability(now) === 'available');
    },
    bind() {},
  };
}

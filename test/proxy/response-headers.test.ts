import type { FastifyReply } from 'fastify';
import fastify from 'fastify';
import t from 'tap';
import { copyResponseHeaders, passingTrailers } from '../../src/proxy/response-headers.ts';

/** What a reply carries after a head was copied onto it, with what a plugin had set before. */
async function copied(raw: string[], preset: Record<string, string | string[]> = {}) {
  const app = fastify();
  let headers: Record<string, unknown> = {};
  let hasContentType = false;
  app.get('/', (_request, reply: FastifyReply) => {
    reply.headers(preset);
    hasContentType = copyResponseHeaders(reply, raw, {});
    headers = { ...reply.getHeaders() };
    reply.send();
  });
  await app.inject('/');
  await app.close();
  return { headers, hasContentType };
}

t.test('hop-by-hop headers and what Connection names do not pass', async (t) => {
  const { headers, hasContentType } = await copied(
    [
      'Content-Type',
      'text/plain',
      'Connection',
      'keep-alive, X-Private',
      'X-Private',
      '1',
      'Keep-Alive',
      'timeout=5',
    ].concat(['Transfer-Encoding', 'chunked', 'Upgrade', 'h2c', 'Proxy-Authenticate', 'Basic', 'X-Kept', '2']),
  );
  t.same(headers, { 'content-type': 'text/plain', 'x-kept': '2' });
  t.ok(hasContentType);
});

t.test('repeated headers stay separate lines', async (t) => {
  const { headers, hasContentType } = await copied([
    'Set-Cookie',
    'a=1',
    'Link',
    '</a>',
    'set-cookie',
    'b=2',
    'link',
    '</b>',
    'LINK',
    '</c>',
  ]);
  t.same(headers, { 'set-cookie': ['a=1', 'b=2'], link: ['</a>', '</b>', '</c>'] });
  t.notOk(hasContentType);
});

t.test('what a plugin set wins, however often the upstream says it; vary and set-cookie add up', async (t) => {
  const { headers } = await copied(
    ['X-Frame-Options', 'ALLOW', 'x-frame-options', 'SAMEORIGIN', 'Vary', 'Accept', 'Set-Cookie', 'b=2'],
    {
      'x-frame-options': 'DENY',
      vary: 'Origin',
      'set-cookie': 'a=1',
    },
  );
  t.same(headers, { 'x-frame-options': 'DENY', vary: 'Origin, Accept', 'set-cookie': ['a=1', 'b=2'] });
});

t.test('a head that an interceptor changed is read by name', async (t) => {
  const app = fastify();
  app.get('/', (_request, reply) => {
    copyResponseHeaders(reply, null, { 'x-a': ['1', '2'], connection: 'close' });
    reply.send();
  });
  const { headers } = await app.inject('/');
  t.same(headers['x-a'], ['1', '2']);
  await app.close();
});

t.test('trailers pass without those that would change how the message is read', async (t) => {
  t.same(
    passingTrailers(['Grpc-Status', '0', 'Content-Length', '5', 'Transfer-Encoding', 'x', 'Set-Cookie', 'a=b'], {}),
    [['Grpc-Status', '0']],
  );
  t.same(passingTrailers(null, { 'x-end': ['1', '2'] }), [
    ['x-end', '1'],
    ['x-end', '2'],
  ]);
  t.equal(passingTrailers([], {}), null);
});

import type { TLSSocket } from 'node:tls';
import { pino } from 'pino';
import t from 'tap';
import { peerFault, RefusedPeers } from '../../src/runtime/peer-fault.ts';

t.test('says what is wrong with a peer in words of the mesh', async (t) => {
  const fault = (code: string, more: object = {}, socket: object = {}) =>
    peerFault(Object.assign(new Error('as OpenSSL puts it'), { code, ...more }), socket as TLSSocket);
  t.equal(fault('ERR_SSL_HTTP_REQUEST', { reason: 'http request' }), 'it speaks plain HTTP, and mtls is strict');
  t.equal(fault('ERR_SSL_X', { reason: 'no shared cipher' }), 'no shared cipher');
  t.equal(fault('ERR_SSL_X'), 'as OpenSSL puts it');
  t.equal(
    fault('ECONNRESET', {}, { authorizationError: 'CERT_HAS_EXPIRED' }),
    'its certificate does not verify: CERT_HAS_EXPIRED',
  );
  for (const code of ['ECONNRESET', 'EPIPE', 'ERR_TLS_HANDSHAKE_TIMEOUT'])
    t.equal(fault(code, {}, { authorizationError: null }), null, `${code}: nobody's concern`);
});

t.test('a flood of refusals is a line a second, with the number of those left out', async (t) => {
  const lines: object[] = [];
  const told = new RefusedPeers(pino({}, { write: (line) => void lines.push(JSON.parse(line)) }));
  told.tell('10.0.0.1', 'first', 0);
  for (let at = 1; at < 1_000; at++) told.tell('10.0.0.2', 'flood', at);
  told.tell('10.0.0.3', 'next', 1_000);
  t.match(lines, [
    { level: 40, remoteAddress: '10.0.0.1', reason: 'first', untold: 0 },
    { level: 40, remoteAddress: '10.0.0.3', reason: 'next', untold: 999 },
  ]);
  t.equal(lines.length, 2);
});

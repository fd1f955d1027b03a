// The line of the access log that a connection leaves behind.
import t from 'tap';
import { type TcpRecord, tcpLine } from '../../../src/proxy/tcp/line.ts';

const LOG = { sample: 1, always: { errors: true, slowMs: null }, redact: [], fields: { region: 'eu' }, headers: [] };
const RECORD: TcpRecord = {
  id: 'c1',
  role: 'inbound',
  owner: 'db',
  listener: 'inbound',
  clientAddress: '10.0.0.5',
  peer: 'spiffe://shop.internal/service/orders',
  verdict: 'allowed',
  policy: 'orders-may',
  service: 'db',
  endpoint: '127.0.0.1:5432',
  attempts: [{ endpoint: '127.0.0.1:5432', outcome: 'ok', status: 0, durationMs: 0.5 }],
  reason: null,
  durationMs: 1_234.567_89,
  bytesIn: 10,
  bytesOut: 20,
};

t.test('it says who called what, for how long, with how much, and why it ended', async (t) => {
  const { time, ...line } = JSON.parse(tcpLine(RECORD, LOG) as string);
  t.ok(Date.parse(time) > 0);
  t.strictSame(line, {
    level: 30,
    msg: 'connection',
    connectionId: 'c1',
    role: 'inbound',
    owner: 'db',
    listener: 'inbound',
    clientAddress: '10.0.0.5',
    peer: 'spiffe://shop.internal/service/orders',
    protocol: 'TCP',
    verdict: 'allowed',
    policy: 'orders-may',
    service: 'db',
    endpoint: '127.0.0.1:5432',
    durationMs: 1_234.568,
    bytesIn: 10,
    bytesOut: 20,
    region: 'eu',
  });
});

t.test('failures are errors, with the tries that were made', async (t) => {
  const attempts = [{ endpoint: 'a:1', outcome: 'upstream_refused', status: 0, durationMs: 1 }];
  const failed = tcpLine({ ...RECORD, endpoint: null, attempts, reason: 'upstream_refused' }, LOG) as string;
  t.match(JSON.parse(failed), {
    level: 50,
    reason: 'upstream_refused',
    attempts: [{ endpoint: 'a:1', outcome: 'upstream_refused', durationMs: 1 }],
  });
  for (const reason of ['client_aborted', 'forbidden', 'idle_timeout', 'draining'])
    t.match(JSON.parse(tcpLine({ ...RECORD, reason }, LOG) as string), { level: 30, reason });
});

t.test('a sample leaves out what went well, and no failure', async (t) => {
  const none = { ...LOG, sample: 0 };
  t.equal(tcpLine(RECORD, none), null);
  t.ok(tcpLine({ ...RECORD, reason: 'upstream_reset' }, none));
  t.equal(tcpLine({ ...RECORD, reason: 'upstream_reset' }, { ...none, always: { errors: false, slowMs: null } }), null);
});

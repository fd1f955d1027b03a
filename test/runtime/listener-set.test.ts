import { once } from 'node:events';
import { connect } from 'node:net';
import pino from 'pino';
import t from 'tap';
import { Listener } from '../../src/runtime/listener.ts';
import { ListenerSet } from '../../src/runtime/listener-set.ts';
import { Recorder, specOf } from '../support/open-listener.ts';

t.test('the end of the last connection can be waited for again, and no look-out is left behind', async (t) => {
  const set = new ListenerSet(new Recorder(), (spec, sink) => new Listener(spec, sink, pino({ level: 'silent' })));
  t.teardown(() => set.destroy());
  const prepared = await set.prepare([specOf()]);
  t.same(prepared.problems, []);
  prepared.commit(0);
  const [held] = [...set.connections().keys()];
  t.equal(held, 'gateway/public/http');
  const { port } = set.addresses()[held];
  const client = connect(port, '127.0.0.1');
  await once(client, 'connect');
  while (set.connections().get(held) !== 1) await new Promise(setImmediate);
  await set.drain();
  void set.whenClosed();
  const closed = set.whenClosed();
  client.destroy();
  await closed;
  t.notOk(process.getActiveResourcesInfo().includes('Timeout'));
});

import t from 'tap';
import { Channel, ChannelError, WithHandle } from '../../../src/runtime/workers/channel.ts';
import { silent, wires } from './support/fake-child.ts';

t.test('questions get the answers of the other end, failures with their code', async (t) => {
  const [a, b] = wires();
  const told: unknown[] = [];
  new Channel(b, {
    double: (n: number) => n * 2,
    fails: async () => {
      throw Object.assign(new Error('no such place'), { code: 'ENOENT' });
    },
    socket: () => new WithHandle({ fd: 7 }),
    same: (what: unknown) => what,
    noted: (what: unknown) => told.push(what),
  });
  const channel = new Channel(a, {});
  t.equal(await channel.ask('double', 21), 42);
  await t.rejects(channel.ask('fails'), { message: 'no such place', code: 'ENOENT' });
  t.strictSame(await channel.ask('socket'), { fd: 7 }, 'a socket travels beside the message');
  channel.tell('noted', { a: 1 });
  const rich = new Map([['a', Number.POSITIVE_INFINITY]]);
  t.strictSame(await channel.ask('same', rich), rich, 'asked and answered is whatever can be cloned');
  t.strictSame(told, [{ a: 1 }]);
});

t.test('nobody waits for an end that is gone, or beyond the time that was given', async (t) => {
  const [a, b] = wires();
  new Channel(b, { never: silent, fine: () => 1 });
  const channel = new Channel(a, {});
  await t.rejects(channel.ask('never', null, 1), { message: 'no answer to "never" within 1 ms' });
  t.equal(await channel.ask('fine'), 1, 'later questions are answered');
  const waiting = channel.ask('never');
  channel.close();
  await t.rejects(waiting, ChannelError);
  await t.rejects(channel.ask('fine'), ChannelError);
  channel.tell('fine');
});

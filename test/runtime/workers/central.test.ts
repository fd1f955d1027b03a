import t from 'tap';
import type { CentralService } from '../../../src/plugin.ts';
import { type Asked, CentralClient, CentralDesk } from '../../../src/runtime/workers/central.ts';

/** A client whose supervisor answers when it is told to. */
function pair(service: Partial<CentralService>) {
  const all: CentralService = { ask: () => null, tell() {}, gone() {}, ...service };
  const desk = new CentralDesk(new Map([['counts', async () => all]]));
  const batches: (readonly Asked[])[] = [];
  const client: CentralClient = new CentralClient({
    tell: (_about, batch) => {
      batches.push(batch as readonly Asked[]);
    },
  });
  const deliver = async () => {
    for (const batch of batches.splice(0)) await desk.handle(1, batch, (answers) => client.answered(answers));
  };
  return { client, desk, batches, deliver };
}

const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

t.test('what is asked within one turn travels together, and is answered in order', async (t) => {
  const seen: unknown[] = [];
  const { client, batches, deliver } = pair({
    ask: (worker, question) => {
      seen.push([worker, question]);
      return seen.length;
    },
    tell: (worker, message) => seen.push([worker, message]),
  });
  const asked = [client.ask('counts', 'a'), client.ask('counts', 'b')];
  client.tell('counts', 'c');
  await turn();
  t.equal(batches.length, 1);
  await deliver();
  t.strictSame(await Promise.all(asked), [1, 2]);
  t.strictSame(seen, [
    [1, 'a'],
    [1, 'b'],
    [1, 'c'],
  ]);
});

t.test('what a service throws reaches who asked, and nobody else', async (t) => {
  const { client, deliver } = pair({
    ask: (_worker, question) => {
      if (question === 'bad') throw new Error('not open');
      return 'fine';
    },
  });
  const [bad, good, unknown] = [client.ask('counts', 'bad'), client.ask('counts', 'x'), client.ask('nobody', 1)];
  await turn();
  const failures = [t.rejects(bad, /not open/), t.rejects(unknown, /no central service "nobody"/)];
  await deliver();
  t.equal(await good, 'fine');
  await Promise.all(failures);
});

t.test('an answer that is late is an error, and goes where late ones go', async (t) => {
  const { client, deliver } = pair({ ask: () => 'granted' });
  const late: unknown[] = [];
  const asked = client.ask('counts', 'a', { timeoutMs: 50, onLate: (answer) => late.push(answer) });
  await turn();
  await t.rejects(asked, /did not answer within 50 ms/);
  await deliver();
  t.strictSame(late, ['granted']);
  client.answered([[1, 'again', null]]);
  t.strictSame(late, ['granted'], 'once');
});

t.test('while it does not answer, nobody waits for it', async (t) => {
  const { client, deliver } = pair({ ask: () => 'fine' });
  const unanswered = client.ask('counts', 'a', { timeoutMs: 50 });
  await turn();
  await t.rejects(unanswered, /did not answer within 50 ms/);
  await t.rejects(client.ask('counts', 'b'), /the supervisor does not answer/);
  await deliver();
  const asked = client.ask('counts', 'c');
  await turn();
  await deliver();
  t.equal(await asked, 'fine');
});

t.test('without a supervisor everything fails at once', async (t) => {
  const { client } = pair({});
  const waiting = client.ask('counts', 'a');
  client.close();
  await t.rejects(waiting, /the supervisor is gone/);
  await t.rejects(client.ask('counts', 'b'), /the supervisor is gone/);
});

t.test('services hear of a worker that ended', async (t) => {
  const gone: number[] = [];
  const { client, desk, deliver } = pair({ gone: (worker) => gone.push(worker) });
  desk.gone(3);
  const asked = client.ask('counts', 'a');
  await turn();
  await deliver();
  await asked;
  desk.gone(1);
  t.strictSame(gone, [1], 'those that were ever asked');
});

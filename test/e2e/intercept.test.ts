// `selvedge intercept` against a real kernel: an application and its hop on one machine, a service and a caller on another.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Namespace, noNamespaces, twoMachines } from './support/namespaces.ts';

const BIN = join(import.meta.dirname, '../../bin/selvedge.js');

const APP_UID = '1234';
const HOP_UID = '1235';

/** Many processes start one after the other. */
t.setTimeout(120_000);

/**
 * Says what arrived; on `/call?to=URL` it says what the URL answered. It becomes another user before it opens a socket, so that
 * the user needs no rights on any file.
 */
const APP = `
const http = require('node:http');
const [uid, port] = process.argv.slice(1);
process.setgid(Number(uid));
process.setuid(Number(uid));
http.createServer((req, res) => {
  const url = new URL(req.url, 'http://x');
  if (url.pathname !== '/call') return res.end(JSON.stringify({ port, url: req.url, headers: req.headers }));
  const headers = url.searchParams.has('host') ? { host: url.searchParams.get('host') } : {};
  http.get(url.searchParams.get('to'), { headers, agent: false }, (inner) => inner.pipe(res)).on('error', (error) => {
    res.end(JSON.stringify({ failed: error.code }));
  });
}).listen(Number(port), '::', () => console.log('listens'));
`;

/** One request and what came of it, as JSON. */
const ASK = `
require('node:http').get(process.argv[1], { agent: false }, (res) => res.pipe(process.stdout))
  .on('error', (error) => console.log(JSON.stringify({ failed: error.code })));
`;

/** Two requests on one connection, the second one when it is told to. */
const KEEP = `
const agent = new (require('node:http').Agent)({ keepAlive: true, maxSockets: 1 });
const ask = (said) => require('node:http').get(process.argv[1], { agent }, (res) => {
  let text = '';
  res.on('data', (chunk) => { text += chunk; }).on('end', () => console.log(said, text));
}).on('error', (error) => console.log(said, error.code));
ask('first');
process.on('SIGUSR2', () => ask('second'));
// Neither an idle connection nor a signal handler keeps a process.
setInterval(() => undefined, 60_000);
`;

interface Answer {
  readonly port?: string;
  readonly headers?: Record<string, string>;
  readonly failed?: string;
  readonly code?: string;
}

interface Setting {
  readonly here: Namespace;
  readonly there: Namespace;
  /** What the application gets when it calls. */
  readonly call: (to: string, host?: string) => Answer;
  /** What somebody on the other machine gets from the application's address. */
  readonly arrive: (host?: string) => Answer;
  readonly intercept: (...args: string[]) => string;
  readonly rules: () => string;
}

async function setting(t: Test, backend: string, inbound = '0.0.0.0'): Promise<Setting> {
  const { here, there } = twoMachines(t);
  const file = join(
    t.testdir({
      'selvedge.json': JSON.stringify({
        version: 1,
        admin: false,
        telemetry: { accessLog: false },
        mesh: { mtls: 'off' },
        services: {
          cart: {
            endpoints: [{ address: '127.0.0.1:3000', hop: '10.77.0.1:15001' }],
            internal: { inbound: { host: inbound, port: 15_001 }, outbound: { host: '::', port: 15_002 } },
          },
          stock: { endpoints: ['10.77.0.2:4000'] },
          stock6: { endpoints: ['[fd77::2]:4000'] },
        },
      }),
    }),
    'selvedge.json',
  );
  await Promise.all([
    here.start('listens', process.execPath, '-e', APP, APP_UID, '3000'),
    there.start('listens', process.execPath, '-e', APP, '0', '4000'),
    there.start('listens', process.execPath, '-e', APP, '0', '5000'),
    here.start('config in force', process.execPath, BIN, 'run', '-c', file, '--internal', 'cart'),
  ]);
  const ask = (from: Namespace, url: string): Answer => JSON.parse(from.run(process.execPath, '-e', ASK, url));
  return {
    here,
    there,
    call: (to, host) => {
      const query = new URLSearchParams({ to, ...(host === undefined ? {} : { host }) });
      return ask(here, `http://127.0.0.1:3000/call?${query}`);
    },
    arrive: (host = '10.77.0.1') => ask(there, `http://${host}:3000/`),
    intercept: (...args) =>
      here.run(process.execPath, BIN, 'intercept', '-c', file, '--internal', 'cart', '--backend', backend, ...args),
    rules: () => {
      if (backend === 'nft') return here.run('nft', 'list', 'ruleset');
      const saved = ['iptables-save', 'ip6tables-save'].map((tool) => here.run(tool)).join('');
      return saved.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '');
    },
  };
}

const VIA = '1.1 selvedge';

for (const backend of ['nft', 'iptables'] as const) {
  t.test(backend, { skip: noNamespaces(backend), timeout: 120_000 }, async (t) => {
    t.test('calls and callers go through the hop while the rules are in force, and only then', async (t) => {
      const { here, there, call, arrive, intercept, rules } = await setting(t, backend);
      if (backend === 'nft') {
        here.run('nft', 'add table inet other');
        here.run('nft', 'add chain inet other c { type filter hook input priority 5 ; policy accept ; }');
        here.run('nft', 'add rule inet other c tcp dport 9 drop');
      } else {
        here.run('iptables', '-t', 'nat', '-A', 'OUTPUT', '-p', 'tcp', '-d', '10.99.0.1', '-j', 'ACCEPT');
        here.run('ip6tables', '-A', 'INPUT', '-p', 'tcp', '--dport', '9', '-j', 'DROP');
      }
      const before = rules();
      t.equal(call('http://10.77.0.2:4000/').headers?.via, undefined, 'before: the application calls directly');
      t.equal(arrive().headers?.via, undefined, 'before: it is called directly');

      const printed = intercept('--user', APP_UID);
      t.match(printed, /selvedge_cart|SELVEDGE_CART/);
      t.equal(rules(), before, 'printing changes nothing');

      intercept('--user', APP_UID, '--apply');
      const after = rules();
      for (const line of before.split('\n')) t.ok(after.includes(line), 'rules of others stay');
      const seen = call('http://10.77.0.2:4000/');
      t.match(seen, { port: '4000', headers: { via: VIA, host: '10.77.0.2:4000' } }, 'by IPv4 address');
      t.match(seen.headers?.['x-request-id'], /./);
      t.match(call('http://[fd77::2]:4000/'), { port: '4000', headers: { via: VIA } }, 'by IPv6 address');
      t.match(call('http://10.77.0.2:4000/', 'stock'), { port: '4000', headers: { via: VIA } }, 'by name in Host');
      t.match(call('http://10.77.0.2:4000/', 'nobody'), { code: 'SLV_SERVICE_NOT_FOUND' }, 'a Host of nobody');
      t.match(call('http://10.77.0.2:5000/'), { port: '5000', headers: { via: undefined } }, 'other ports pass by');
      t.equal(arrive().headers?.via, VIA, 'callers from elsewhere come through the hop');
      t.same(
        arrive('[fd77::1]'),
        { failed: 'ECONNREFUSED' },
        'and not past it by an IP version that it does not serve',
      );
      const local = JSON.parse(here.run(process.execPath, '-e', ASK, 'http://127.0.0.1:3000/'));
      t.equal(local.headers.via, undefined, 'on its own machine the application stays where it is');
      const other = here.run(process.execPath, '-e', `process.setuid(${HOP_UID});${ASK}`, 'http://10.77.0.2:4000/');
      t.equal(JSON.parse(other).headers.via, undefined, 'calls of other users pass by');
      t.match(there.run(process.execPath, '-e', ASK, 'http://10.77.0.1:15001/'), /"via":"1.1 selvedge"/);

      intercept('--user', APP_UID, '--apply');
      t.equal(rules(), after, 'applied twice is applied once');
      t.equal(call('http://10.77.0.2:4000/').headers?.via, VIA);

      t.match(intercept('--remove'), /# removed\n$/);
      // Iptables writes a table's chains once it has been asked for; what they hold is what counts.
      const held = (text: string) =>
        text.split('\n').filter((line) => !/^(\*|:[A-Z]+ (ACCEPT|DROP)|COMMIT)/.test(line));
      t.same(held(rules()), held(before), 'nothing is left behind');
      t.equal(call('http://10.77.0.2:4000/').headers?.via, undefined);
      t.equal(arrive().headers?.via, undefined);
      t.match(intercept('--remove'), /^# nothing of it is here\n$/, 'removed twice is removed once');
    });

    t.test('callers by IPv6 come through a hop that listens there', async (t) => {
      const { arrive, intercept } = await setting(t, backend, '::');
      intercept('--user', APP_UID, '--apply');
      for (const host of ['10.77.0.1', '[fd77::1]']) t.equal(arrive(host).headers?.via, VIA, host);
    });

    t.test('connections that were open before stay as they are', async (t) => {
      const { here, there, intercept } = await setting(t, backend);
      const open = async (from: Namespace, url: string, uid: string) => {
        const child = await from.start('first', process.execPath, '-e', `process.setuid(${uid});${KEEP}`, url);
        return () =>
          new Promise<string>((resolve) => {
            child.stdout?.on('data', (text: string) => text.includes('second') && resolve(text));
            child.kill('SIGUSR2');
          });
      };
      const caller = await open(there, 'http://10.77.0.1:3000/', '0');
      const call = await open(here, 'http://10.77.0.2:4000/', APP_UID);
      intercept('--user', APP_UID, '--apply');
      for (const [who, again] of [
        ['a caller', caller],
        ['a call', call],
      ] as const) {
        const text = await again();
        t.match(text, /^second \{"port"/, `${who} goes on`);
        t.notMatch(text, /"via"/);
      }
    });

    t.test('the user is found by who listens at the address of the application', async (t) => {
      const { intercept } = await setting(t, backend);
      t.match(intercept(), backend === 'nft' ? `meta skuid ${APP_UID} ` : `--uid-owner ${APP_UID} `);
    });

    t.test('the user of the hop is refused: its own calls would come back to it', async (t) => {
      const { intercept, rules } = await setting(t, backend);
      t.throws(() => intercept('--user', '0', '--force', '--apply'), /user 0 also listens on the hop's outbound port/);
      t.notMatch(rules(), /selvedge/i);
    });
  });
}

/** Root keeps its name and its files, but not the right; whoever else runs the suite never had it. */
const POWERLESS = process.getuid?.() === 0 ? ['setpriv', '--bounding-set', '-net_admin'] : [];

function cannotBePowerless(): string | false {
  if (process.platform !== 'linux') return 'rules of the kernel are a matter of Linux';
  if (POWERLESS.length === 0 || spawnSync('setpriv', ['--version']).error === undefined) return false;
  return 'setpriv (util-linux) is not installed, so root cannot put its rights away';
}

t.test(
  'without the right to change rules it says so, and changes nothing',
  { skip: cannotBePowerless() },
  async (t) => {
    const [program, ...args] = [...POWERLESS, process.execPath, BIN, 'intercept', '--internal', 'cart', '--remove'];
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    t.equal(status, 1);
    t.match(stderr, /run it as root, or with CAP_NET_ADMIN/);
  },
);

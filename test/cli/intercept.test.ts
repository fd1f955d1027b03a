// `selvedge intercept`: the rules it writes for a config, and what it refuses. A real kernel gets them in test/e2e/intercept.test.ts.
import t, { type Test } from 'tap';
import { stepsToApply, stepsToRemove } from '../../src/cli/intercept/backend.ts';
import { chainName, tableName } from '../../src/cli/intercept/names.ts';
import { planInterception } from '../../src/cli/intercept/plan.ts';
import { listenersOf, type System, type ToolResult } from '../../src/cli/intercept/system.ts';
import { interceptCommand } from '../../src/cli/intercept.ts';
import { loadConfig } from '../../src/config/load.ts';
import { type Ran, runCommand } from './support/io.ts';

const SHOP = `
version: 1
mesh: { mtls: off }
services:
  orders:
    endpoints: [{ address: 127.0.0.1:3000, hop: 10.0.0.4:15001 }]
    internal: { inbound: { port: 15001 }, outbound: { port: 15002 } }
  stock:
    endpoints: [10.0.0.5:3000, { address: 127.0.0.1:3000, hop: 10.0.0.6:15001 }]
    internal: { inbound: { port: 15001 } }
  bank:
    endpoints: [bank.example.com:443]
    tls: true
  mail:
    endpoints: [mail.internal:25, "[fd00::7]:8025"]
`;

interface Machine extends System {
  /** What was run, with what it read. */
  readonly ran: { readonly line: string; readonly stdin: string }[];
}

/** A machine that has both tools, user 1234 at the application's port, and no rules. */
function machine(
  parts: Partial<System> & { readonly answers?: Readonly<Record<string, Partial<ToolResult>>> } = {},
): Machine {
  const { answers = {}, ...own } = parts;
  const ran: { line: string; stdin: string }[] = [];
  return {
    platform: 'linux',
    hasIpv6: true,
    mayChangeRules: () => true,
    tool: async (file, args, stdin = '') => {
      const line = [file, ...args].join(' ');
      if (!line.endsWith('--version')) ran.push({ line, stdin });
      return { code: 0, stdout: '', stderr: '', ...answers[line] };
    },
    resolve: async (name) => (name === 'mail.internal' ? ['10.0.0.7'] : []),
    listeners: (port) => (port === 3000 ? [1234] : []),
    ...own,
    ran,
  };
}

async function intercept(t: Test, args: string, system: System = machine(), config = SHOP): Promise<Ran> {
  const dir = t.testdir({ 'selvedge.yaml': config });
  return runCommand(
    interceptCommand(() => system),
    args.split(' ').filter(Boolean),
    dir,
  );
}

const NFT = `# nft -f -
add table inet selvedge_orders
delete table inet selvedge_orders
table inet selvedge_orders {
  set services4 {
    type ipv4_addr . inet_service
    elements = {
      10.0.0.4 . 15001, # orders, its hop
      10.0.0.5 . 3000, # stock
      10.0.0.6 . 15001, # stock, its hop
      10.0.0.7 . 25, # mail, as mail.internal:25
    }
  }

  # calls of user 77 to services go to the outbound side of the hop, which runs as another user
  chain outbound {
    type nat hook output priority -101; policy accept;
    meta skuid 77 ip daddr . tcp dport @services4 tcp flags & (fin | syn | rst | ack) == syn dnat ip to 127.0.0.1:15002
  }

  # who comes from elsewhere for the application gets to the inbound side of the hop
  chain inbound {
    type nat hook prerouting priority -101; policy accept;
    iifname != "lo" fib daddr type local meta nfproto ipv4 tcp dport { 3000 } tcp flags & (fin | syn | rst | ack) == syn redirect to :15001
  }

  # nobody from elsewhere gets past the hop
  chain shut {
    type filter hook input priority 0; policy accept;
    iifname != "lo" tcp dport { 3000 } tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset
  }
}

`;

t.test('prints the rules of nftables, says what they leave out, and runs nothing', async (t) => {
  const system = machine();
  const { code, stdout, stderr } = await intercept(t, '--internal orders --user 77', system);
  t.equal(code, 0);
  t.equal(stdout, NFT);
  t.equal(
    stderr,
    `warning: bank.example.com:443 of "bank" is left alone: it speaks TLS, which a hop cannot read
warning: mail.internal:25 of "mail" is 10.0.0.7 now; apply again when that changes
warning: calls to 1 IPv6 address(es) pass by: the outbound side listens on 127.0.0.1 alone
warning: the inbound side does not listen on IPv6: connections to the application from elsewhere by IPv6 are refused
`,
  );
  t.same(system.ran, []);
  t.equal((await intercept(t, '--internal orders --user 77 --print', system)).stdout, NFT, 'said or not');
});

t.test('prints the same for iptables, a script for each IP version', async (t) => {
  const { stdout } = await intercept(t, '--internal orders --user 77 --backend iptables');
  t.equal(
    stdout,
    `# iptables-restore -w 5 --noflush
*nat
:SELVEDGE_ORDERS_OUT - [0:0]
:SELVEDGE_ORDERS_IN - [0:0]
# orders, its hop
-A SELVEDGE_ORDERS_OUT -d 10.0.0.4 -p tcp --dport 15001 --syn -m owner --uid-owner 77 -j DNAT --to-destination 127.0.0.1:15002
# stock
-A SELVEDGE_ORDERS_OUT -d 10.0.0.5 -p tcp --dport 3000 --syn -m owner --uid-owner 77 -j DNAT --to-destination 127.0.0.1:15002
# stock, its hop
-A SELVEDGE_ORDERS_OUT -d 10.0.0.6 -p tcp --dport 15001 --syn -m owner --uid-owner 77 -j DNAT --to-destination 127.0.0.1:15002
# mail, as mail.internal:25
-A SELVEDGE_ORDERS_OUT -d 10.0.0.7 -p tcp --dport 25 --syn -m owner --uid-owner 77 -j DNAT --to-destination 127.0.0.1:15002
-I OUTPUT -p tcp -j SELVEDGE_ORDERS_OUT
-A SELVEDGE_ORDERS_IN ! -i lo -p tcp --dport 3000 --syn -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 15001
-I PREROUTING -p tcp -j SELVEDGE_ORDERS_IN
COMMIT
*filter
:SELVEDGE_ORDERS_SHUT - [0:0]
-A SELVEDGE_ORDERS_SHUT ! -i lo -p tcp --dport 3000 --syn -j REJECT --reject-with tcp-reset
-I INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
COMMIT

# ip6tables-restore -w 5 --noflush
*nat
:SELVEDGE_ORDERS_OUT - [0:0]
:SELVEDGE_ORDERS_IN - [0:0]
-I OUTPUT -p tcp -j SELVEDGE_ORDERS_OUT
-I PREROUTING -p tcp -j SELVEDGE_ORDERS_IN
COMMIT
*filter
:SELVEDGE_ORDERS_SHUT - [0:0]
-A SELVEDGE_ORDERS_SHUT ! -i lo -p tcp --dport 3000 --syn -j REJECT --reject-with tcp-reset
-I INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
COMMIT

`,
  );
  const v4 = await intercept(t, '--internal orders --user 77 --backend iptables', machine({ hasIpv6: false }));
  t.notMatch(
    v4.stdout + v4.stderr,
    /ip6tables|IPv6 are refused/,
    'without IPv6 on the machine there is nothing to say about it',
  );
});

t.test('a hop that listens on both IP versions, or on one address, is reached where it listens', async (t) => {
  const both = SHOP.replace(
    'inbound: { port: 15001 }, outbound: { port: 15002 }',
    "inbound: { host: '::', port: 15001 }, outbound: { host: '::', port: 15002 }",
  );
  const { stdout } = await intercept(t, '--internal orders --user 77', machine(), both);
  t.match(stdout, 'fd00::7 . 8025, # mail');
  t.match(stdout, /ip6 daddr \. tcp dport @services6 .* dnat ip6 to \[::1\]:15002/);
  t.match(stdout, /nfproto ipv6 .* redirect to :15001/);
  const one = SHOP.replace(
    'inbound: { port: 15001 }, outbound: { port: 15002 }',
    "inbound: { host: 'fd00::4', port: 15001 }, outbound: { host: 10.0.0.4, port: 15002 }",
  ).replace('hop: 10.0.0.4:15001', "hop: '[fd00::4]:15001'");
  const narrow = (await intercept(t, '--internal orders --user 77', machine(), one)).stdout;
  t.match(narrow, 'dnat ip to 10.0.0.4:15002');
  t.match(narrow, 'dnat ip6 to [fd00::4]:15001');
  t.notMatch(narrow, 'nfproto ipv4');
});

t.test('applying tries the rules out, then puts them in force, and tells what', async (t) => {
  const system = machine();
  const { code, stdout, stderr } = await intercept(t, '--internal orders --user 77 --apply', system);
  t.equal(code, 0);
  t.equal(stdout, `${NFT}# in force; selvedge intercept --internal orders --remove takes it away\n`);
  t.match(stderr, 'nobody listens at port 15002 yet');
  const [, script] = NFT.split('# nft -f -\n');
  t.same(system.ran, [
    { line: 'nft --check -f -', stdin: script.slice(0, -1) },
    { line: 'nft -f -', stdin: script.slice(0, -1) },
  ]);
});

t.test('iptables stands in where nft is missing, and hangs in no chain twice', async (t) => {
  const saved = '*nat\n:SELVEDGE_ORDERS_OUT - [0:0]\n-A OUTPUT -p tcp -j SELVEDGE_ORDERS_OUT\nCOMMIT\n';
  const missing = { 'nft --version': { code: null } };
  const system = machine({ answers: { ...missing, 'iptables-save': { stdout: saved } } });
  const { code, stdout } = await intercept(t, '--internal orders --user 77 --apply', system);
  t.equal(code, 0);
  const [v4, v6] = stdout.split('# ip6tables-restore');
  t.notMatch(v4, '-I OUTPUT');
  t.match(v4, '-I PREROUTING');
  t.match(v6, '-I OUTPUT');
  t.same(
    system.ran.map(({ line }) => line),
    [
      'iptables-save',
      'ip6tables-save',
      'iptables-restore --test -w 5 --noflush',
      'ip6tables-restore --test -w 5 --noflush',
      'iptables-restore -w 5 --noflush',
      'ip6tables-restore -w 5 --noflush',
    ],
  );
});

t.test('removing takes away what is there, from both tools, without a config', async (t) => {
  const saved = `*filter
:INPUT ACCEPT [0:0]
:SELVEDGE_ORDERS_SHUT - [0:0]
:SELVEDGE_ORDERS-NEXT_SHUT - [0:0]
-A INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
-A INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
-A INPUT -p tcp -j SELVEDGE_ORDERS-NEXT_SHUT
COMMIT
`;
  const answers = {
    'nft list tables inet': { stdout: 'table inet other\ntable inet selvedge_orders\n' },
    'ip6tables-save': { stdout: saved },
  };
  const there = await intercept(t, '--internal orders --remove', machine({ answers }), 'not: a config');
  t.equal(there.code, 0);
  t.equal(
    there.stdout,
    `# nft -f -
add table inet selvedge_orders
delete table inet selvedge_orders

# ip6tables-restore -w 5 --noflush
*filter
-D INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
-D INPUT -p tcp -j SELVEDGE_ORDERS_SHUT
-F SELVEDGE_ORDERS_SHUT
-X SELVEDGE_ORDERS_SHUT
COMMIT

# removed
`,
  );
  const gone = await intercept(t, '--internal orders --remove');
  t.match(gone, { code: 0, stdout: '# nothing of it is here\n' });
});

t.test('what the kernel refuses is said, and nothing after it is done', async (t) => {
  const refused = { 'nft --check -f -': { code: 1, stderr: 'Error: Could not process rule\n' } };
  const system = machine({ answers: refused });
  const { code, stderr, stdout } = await intercept(t, '--internal orders --user 77 --apply', system);
  t.equal(code, 1);
  t.match(stderr, 'nft refused (exit code 1): Error: Could not process rule');
  t.notMatch(stdout, 'in force');
  t.equal(system.ran.length, 1);
});

t.test('the user: by name, by who listens, and never root unless forced', async (t) => {
  const named = machine({ answers: { 'id -u shop': { stdout: '512\n' }, 'id -u nobody2': { code: 1 } } });
  t.match((await intercept(t, '--internal orders --user shop', named)).stdout, 'meta skuid 512 ');
  t.match(await intercept(t, '--internal orders --user nobody2', named), { code: 2, stderr: /no user "nobody2"/ });
  t.match(await intercept(t, '--internal orders --user -u', named), { code: 2 });
  const before = named.ran.length;
  t.match(await intercept(t, '--internal orders --user=--help', named), { code: 2, stderr: /no user name or id/ });
  t.match(await intercept(t, '--internal orders --user 4294967295', named), { code: 2, stderr: /no user id/ });
  t.equal(named.ran.length, before, 'what is no user name reaches no tool');

  t.match((await intercept(t, '--internal orders')).stdout, 'meta skuid 1234 ');
  const nobody = machine({ listeners: () => [] });
  t.match(await intercept(t, '--internal orders', nobody), {
    code: 2,
    stderr: /nobody listens at 127\.0\.0\.1:3000 now, so say it by --user/,
  });
  const two = machine({ listeners: (port) => (port === 3000 ? [5, 6] : []) });
  t.match(await intercept(t, '--internal orders', two), { code: 2, stderr: /users 5 and 6 listen at/ });

  const root = machine({ listeners: (port) => (port === 3000 ? [0] : []) });
  t.match(await intercept(t, '--internal orders', root), { code: 2, stderr: /the user is root: .* or say --force/ });
  t.match((await intercept(t, '--internal orders --force', root)).stdout, 'meta skuid 0 ');
  const same = machine({ listeners: () => [1234] });
  t.match(await intercept(t, '--internal orders --force', same), {
    code: 1,
    stderr: /would come back to it; run it as another user/,
  });
});

t.test('what cannot be done here is said before anything is done', async (t) => {
  for (const [args, system, wanted] of [
    ['--internal orders --apply', machine({ platform: 'darwin' }), /works on Linux only; this is darwin/],
    ['--internal orders', machine({ platform: 'win32' }), /works on Linux only/],
    [
      '--internal orders --apply',
      machine({ mayChangeRules: () => false }),
      /--apply changes rules.*root, or with CAP_NET_ADMIN/,
    ],
    ['--internal orders --remove', machine({ mayChangeRules: () => false }), /--remove changes rules/],
    [
      '--internal orders --apply --backend nft',
      machine({ answers: { 'nft --version': { code: null } } }),
      /there is no nft on this machine/,
    ],
    [
      '--internal orders --apply',
      machine({ answers: { 'nft --version': { code: null }, 'iptables --version': { code: null } } }),
      /neither nft nor iptables/,
    ],
  ] as const) {
    const { code, stderr } = await intercept(t, args, system);
    t.equal(code, 1, args);
    t.match(stderr, wanted);
    t.same(system.ran, []);
  }
  const unprivileged = await intercept(t, '--internal orders', machine({ mayChangeRules: () => false }));
  t.equal(unprivileged.code, 0, 'anybody may print');
});

t.test('wrong usage and wrong configs have exit codes of their own', async (t) => {
  for (const [args, wanted] of [
    ['', /say --internal SERVICE/],
    ['--internal order', /no service "order" \(did you mean "orders"\?\)/],
    ['--internal bank', /service "bank" has no hop/],
    ['--internal orders --backend ipfw', /no backend "ipfw"/],
    ['--internal orders --apply --remove', /--apply and --remove exclude each other/],
    ['--internal orders extra', /no argument "extra"/],
  ] as const) {
    const { code, stderr } = await intercept(t, args);
    t.equal(code, 2, args);
    t.match(stderr, wanted);
  }
  t.match(await intercept(t, '--internal orders', machine(), 'version: 2'), { code: 3, stderr: /version/ });
  const anyPort = SHOP.replace('outbound: { port: 15002 }', 'outbound: { port: 0 }');
  t.match(await intercept(t, '--internal orders', machine(), anyPort), { code: 1, stderr: /outbound\.port is 0/ });
  const shared = SHOP.replace('127.0.0.1:3000, hop: 10.0.0.4', '127.0.0.1:15001, hop: 10.0.0.4').replace(
    'inbound: { port: 15001 }, outbound',
    'inbound: { host: 10.0.0.4, port: 15001 }, outbound',
  );
  t.match(await intercept(t, '--internal orders --user 7', machine(), shared), { code: 1, stderr: /share port 15001/ });
});

t.test(
  'a hop on loopback takes calls but nobody from elsewhere; one without outbound side the other way round',
  async (t) => {
    const local = SHOP.replace(
      'inbound: { port: 15001 }, outbound',
      'inbound: { host: 127.0.0.1, port: 15001 }, outbound',
    ).replace('hop: 10.0.0.4', 'hop: 127.0.0.1');
    const calls = await intercept(t, '--internal orders --user 77', machine(), local);
    t.notMatch(calls.stdout, 'chain inbound');
    t.match(calls.stderr, /inbound side listens on 127\.0\.0\.1, .* are left alone/);
    t.notMatch(calls.stdout, '127.0.0.1 . 3000', 'the application still reaches itself');
    const inbound = await intercept(t, '--internal stock');
    t.notMatch(inbound.stdout, 'skuid');
    t.match(inbound.stdout, 'redirect to :15001');
    t.match(inbound.stderr, 'the hop has no outbound side');
  },
);

t.test('nothing that a config or a user writes gets into the syntax of the rules', async (t) => {
  for (const name of [
    'a"; flush ruleset; #',
    'a\nflush ruleset',
    '-F',
    '"x"',
    'ä',
    'A',
    'a_b',
    '1',
    'x'.repeat(200),
    '$(id)',
  ]) {
    t.match(tableName(name), /^selvedge_[a-z0-9_][a-z0-9_-]*$/);
    t.ok(tableName(name).length <= 73);
    for (const suffix of ['OUT', 'IN', 'SHUT'] as const)
      t.match(chainName(name, suffix), /^SELVEDGE_[A-Z0-9_-]{1,19}$/);
  }
  const similar = [
    'orders',
    'Orders',
    'ORDERS',
    'orders.',
    'orders!',
    'orders?',
    'o'.repeat(30),
    'o'.repeat(31),
    `${'o'.repeat(70)}a`,
    `${'o'.repeat(70)}b`,
  ];
  t.equal(new Set(similar.map(tableName)).size, similar.length);
  t.equal(new Set(similar.map((name) => chainName(name, 'OUT'))).size, similar.length);

  const evil = 'a"; flush ruleset';
  const dir = t.testdir({
    'selvedge.json': JSON.stringify({
      version: 1,
      mesh: { mtls: 'off' },
      services: {
        orders: {
          endpoints: ['127.0.0.1:3000'],
          internal: { inbound: { port: 15_001 }, outbound: { port: 15_002 }, app: '127.0.0.1:3000' },
        },
        [`${evil}\nflush ruleset\n*nat\n`]: { endpoints: ['10.0.0.5:3000'] },
      },
    }),
  });
  const { config } = await loadConfig(`${dir}/selvedge.json`);
  if (config === null) return t.pass('the config does not take such a name at all');
  const plan = await planInterception(config, { service: 'orders', user: '7', force: false }, machine());
  for (const backend of ['nft', 'iptables'] as const) {
    for (const { stdin } of await stepsToApply(backend, plan, machine(), false)) {
      const code = stdin.replace(/#.*$/gm, '');
      t.notMatch(code, /flush/);
    }
    t.same(await stepsToRemove(backend, evil, machine()), []);
  }
});

t.test('who listens is read off the table of the kernel', async (t) => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1234        0 5 1 0 100 0 0 10 0
   1: 0100007F:0BB8 0100007F:9999 01 00000000:00000000 00:00000000 00000000    77        0 6 1 0 100 0 0 10 0
   2: 0100007F:9999 0100007F:0BB8 0A 00000000:00000000 00:00000000 00000000    78        0 6 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1235        0 7 1 0 100 0 0 10 0
`;
  t.same(listenersOf(table, 3000), [1234, 1235]);
  t.same(listenersOf(table, 80), []);
  t.same(listenersOf('', 3000), []);
});

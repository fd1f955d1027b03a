// A plan in the language of iptables, for machines without nftables: chains of our own, and one jump to each from a chain of the kernel.
import { formatHostPort } from '../../http/address.ts';
import { chainName, plain } from './names.ts';
import type { Called, Destination, Plan } from './plan.ts';

export type Version = 4 | 6;

/** One of our chains: where it hangs. */
interface Hook {
  readonly table: 'nat' | 'filter';
  readonly from: 'OUTPUT' | 'PREROUTING' | 'INPUT';
  readonly suffix: 'OUT' | 'IN' | 'SHUT';
}

const HOOKS: readonly Hook[] = [
  { table: 'nat', from: 'OUTPUT', suffix: 'OUT' },
  { table: 'nat', from: 'PREROUTING', suffix: 'IN' },
  { table: 'filter', from: 'INPUT', suffix: 'SHUT' },
];

/**
 * For `iptables-restore --noflush` or `ip6tables-restore --noflush`: our chains are emptied and filled again, each table in one step;
 * other chains keep what they have. `saved` is what `iptables-save` says now: a jump that is there is not made twice.
 */
export function iptablesScript(plan: Plan, version: Version, saved: string): string {
  const rules = rulesOf(plan, version);
  return tables((table) => {
    const hooks = HOOKS.filter((hook) => hook.table === table);
    const chains = hooks.map(({ suffix }) => `:${chainName(plan.service, suffix)} - [0:0]`);
    const filled = hooks.flatMap((hook) => {
      const name = chainName(plan.service, hook.suffix);
      const jumps = isThere(saved, jump(hook, plan.service)) ? [] : [`-I ${jump(hook, plan.service)}`];
      return [...rules[hook.suffix].map((rule) => (rule.startsWith('#') ? rule : `-A ${name} ${rule}`)), ...jumps];
    });
    return [...chains, ...filled];
  });
}

/** Null: nothing of ours is there. */
export function iptablesRemoval(service: string, saved: string): string | null {
  const script = tables((table) => {
    const mine = HOOKS.filter(
      (hook) => hook.table === table && section(saved, table).includes(`:${chainName(service, hook.suffix)} `),
    );
    return mine.flatMap((hook) => {
      const name = chainName(service, hook.suffix);
      const jumps = section(saved, table)
        .split('\n')
        .filter((line) => line === `-A ${jump(hook, service)}`);
      return [...jumps.map((line) => `-D ${line.slice(3)}`), `-F ${name}`, `-X ${name}`];
    });
  });
  return script === '' ? null : script;
}

function tables(linesOf: (table: Hook['table']) => readonly string[]): string {
  return (['nat', 'filter'] as const)
    .map((table) => [table, linesOf(table)] as const)
    .filter(([, lines]) => lines.length > 0)
    .map(([table, lines]) => `*${table}\n${lines.join('\n')}\nCOMMIT\n`)
    .join('');
}

/** As iptables-save writes it. */
function jump({ from, suffix }: Hook, service: string): string {
  return `${from} -p tcp -j ${chainName(service, suffix)}`;
}

function isThere(saved: string, rule: string): boolean {
  return saved.split('\n').includes(`-A ${rule}`);
}

/** The part of iptables-save about one table. */
function section(saved: string, table: string): string {
  const start = saved.indexOf(`*${table}\n`);
  return start < 0 ? '' : saved.slice(start, saved.indexOf('\nCOMMIT', start) + 1);
}

/** `--syn`: connection tracking may begin with these rules, and older connections must not look new. */
function rulesOf({ outbound, inbound }: Plan, version: Version): Record<Hook['suffix'], string[]> {
  const calls = outbound === null ? [] : version === 4 ? outbound.calls4 : outbound.calls6;
  const out = outbound === null ? null : version === 4 ? outbound.to4 : outbound.to6;
  const into = inbound === null ? null : version === 4 ? inbound.to4 : inbound.to6;
  const uid = outbound?.uid;
  const arriving = (inbound?.ports ?? []).map((port) => `! -i lo -p tcp --dport ${port} --syn`);
  const call = ({ ip, port, says }: Called) => [
    `# ${plain(says)}`,
    `-d ${ip} -p tcp --dport ${port} --syn -m owner --uid-owner ${uid} -j ${target(out as NonNullable<Destination>)}`,
  ];
  return {
    OUT: out === null ? [] : calls.flatMap(call),
    IN: into === null ? [] : arriving.map((packet) => `${packet} -m addrtype --dst-type LOCAL -j ${target(into)}`),
    SHUT: arriving.map((packet) => `${packet} -j REJECT --reject-with tcp-reset`),
  };
}

function target({ host, port }: NonNullable<Destination>): string {
  return host === null ? `REDIRECT --to-ports ${port}` : `DNAT --to-destination ${formatHostPort(host, port)}`;
}

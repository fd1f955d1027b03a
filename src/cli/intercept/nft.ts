// A plan in the language of nftables: one table of our own, replaced as a whole in one transaction.
import { formatHostPort } from '../../http/address.ts';
import { plain, tableName } from './names.ts';
import type { Called, Destination, Plan } from './plan.ts';

/** Just before the NAT rules of others (dstnat, -100): the first that translates a connection decides. */
const PRIORITY = -101;

/**
 * Only what opens a connection. Connection tracking may begin with these very rules, and would take the next packet of an
 * older connection for the first of a new one.
 */
const OPENS = 'tcp flags & (fin | syn | rst | ack) == syn';

/** For `nft -f -`. Adding before deleting makes it the same whether or not the table is there. */
export function nftScript(plan: Plan): string {
  const table = tableName(plan.service);
  const parts = [...outboundPart(plan), ...inboundPart(plan)];
  return `add table inet ${table}
delete table inet ${table}
table inet ${table} {
${parts.join('\n')}}
`;
}

export function nftRemoval(service: string): string {
  const table = tableName(service);
  return `add table inet ${table}\ndelete table inet ${table}\n`;
}

function outboundPart({ outbound }: Plan): string[] {
  if (outbound === null || outbound.calls4.length + outbound.calls6.length === 0) return [];
  const { uid, to4, to6, calls4, calls6 } = outbound;
  const sets = [...set('services4', 'ipv4_addr', calls4), ...set('services6', 'ipv6_addr', calls6)];
  const rules = [
    ...(to4 === null || calls4.length === 0
      ? []
      : [`meta skuid ${uid} ip daddr . tcp dport @services4 ${OPENS} ${dnat('ip', to4)}`]),
    ...(to6 === null || calls6.length === 0
      ? []
      : [`meta skuid ${uid} ip6 daddr . tcp dport @services6 ${OPENS} ${dnat('ip6', to6)}`]),
  ];
  const says = `calls of user ${uid} to services go to the outbound side of the hop, which runs as another user`;
  return [...sets, ...chain('outbound', `nat hook output priority ${PRIORITY}`, says, rules)];
}

function inboundPart({ inbound }: Plan): string[] {
  if (inbound === null) return [];
  const ports = `tcp dport { ${inbound.ports.join(', ')} }`;
  const arrives = 'iifname != "lo" fib daddr type local';
  const rules = [
    ...(inbound.to4 === null ? [] : [`${arrives} meta nfproto ipv4 ${ports} ${OPENS} ${dnat('ip', inbound.to4)}`]),
    ...(inbound.to6 === null ? [] : [`${arrives} meta nfproto ipv6 ${ports} ${OPENS} ${dnat('ip6', inbound.to6)}`]),
  ];
  const says = 'who comes from elsewhere for the application gets to the inbound side of the hop';
  const shut = [`iifname != "lo" ${ports} ${OPENS} reject with tcp reset`];
  return [
    ...chain('inbound', `nat hook prerouting priority ${PRIORITY}`, says, rules),
    ...chain('shut', 'filter hook input priority 0', 'nobody from elsewhere gets past the hop', shut),
  ];
}

function set(name: string, type: string, calls: readonly Called[]): string[] {
  if (calls.length === 0) return [];
  const elements = calls.map(({ ip, port, says }) => `      ${ip} . ${port}, # ${plain(says)}`);
  return [`  set ${name} {\n    type ${type} . inet_service\n    elements = {\n${elements.join('\n')}\n    }\n  }\n`];
}

function chain(name: string, hook: string, says: string, rules: readonly string[]): string[] {
  const body = rules.map((rule) => `    ${rule}\n`).join('');
  return [`  # ${says}\n  chain ${name} {\n    type ${hook}; policy accept;\n${body}  }\n`];
}

function dnat(family: 'ip' | 'ip6', { host, port }: NonNullable<Destination>): string {
  return host === null ? `redirect to :${port}` : `dnat ${family} to ${formatHostPort(host, port)}`;
}

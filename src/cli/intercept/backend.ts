// The two tools that can put rules in force: what each would run, and running it.
import { iptablesRemoval, iptablesScript, type Version } from './iptables.ts';
import { tableName } from './names.ts';
import { nftRemoval, nftScript } from './nft.ts';
import type { Plan } from './plan.ts';
import type { System, ToolResult } from './system.ts';

export type BackendName = 'nft' | 'iptables';

/** One run of a tool. */
export interface Step {
  readonly tool: string;
  readonly args: readonly string[];
  readonly stdin: string;
}

/** The rules could not be read or changed; says what the tool said. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
}

/** Names of the tools that are installed, nft first. */
export async function installed(system: System): Promise<readonly BackendName[]> {
  const found = await Promise.all((['nft', 'iptables'] as const).map((name) => system.tool(name, ['--version'])));
  return (['nft', 'iptables'] as const).filter((_name, index) => found[index].code === 0);
}

/** `reading` false: as on a machine without any rule. */
export async function stepsToApply(
  backend: BackendName,
  plan: Plan,
  system: System,
  reading: boolean,
): Promise<readonly Step[]> {
  if (backend === 'nft') return [{ tool: 'nft', args: ['-f', '-'], stdin: nftScript(plan) }];
  const steps: Step[] = [];
  for (const version of versions(system)) {
    const saved = reading ? await save(version, system) : '';
    steps.push(restore(version, iptablesScript(plan, version, saved)));
  }
  return steps;
}

/** Empty: nothing of ours is there. */
export async function stepsToRemove(backend: BackendName, service: string, system: System): Promise<readonly Step[]> {
  if (backend === 'nft') {
    const tables = expectGood('nft', await system.tool('nft', ['list', 'tables', 'inet']));
    const there = tables.split('\n').some((line) => line.trim() === `table inet ${tableName(service)}`);
    return there ? [{ tool: 'nft', args: ['-f', '-'], stdin: nftRemoval(service) }] : [];
  }
  const steps: Step[] = [];
  for (const version of versions(system)) {
    const script = iptablesRemoval(service, await save(version, system));
    if (script !== null) steps.push(restore(version, script));
  }
  return steps;
}

/** Every step is tried out before the first is taken. Throws ToolError. */
export async function take(steps: readonly Step[], system: System): Promise<void> {
  for (const mode of ['try', 'do'] as const) {
    for (const { tool, args, stdin } of steps) {
      const check = mode === 'do' ? [] : [tool === 'nft' ? '--check' : '--test'];
      expectGood(tool, await system.tool(tool, [...check, ...args], stdin));
    }
  }
}

function versions({ hasIpv6 }: System): readonly Version[] {
  return hasIpv6 ? [4, 6] : [4];
}

function restore(version: Version, stdin: string): Step {
  // Seconds to wait for others who change rules at the same time.
  return { tool: version === 4 ? 'iptables-restore' : 'ip6tables-restore', args: ['-w', '5', '--noflush'], stdin };
}

async function save(version: Version, system: System): Promise<string> {
  const tool = version === 4 ? 'iptables-save' : 'ip6tables-save';
  return expectGood(tool, await system.tool(tool, []));
}

function expectGood(tool: string, { code, stdout, stderr }: ToolResult): string {
  if (code === 0) return stdout;
  if (code === null) throw new ToolError(`there is no ${tool} on this machine`);
  throw new ToolError(`${tool} refused (exit code ${code}): ${stderr.trim()}`);
}

// The rollouts of a running Selvedge for a person at a terminal: where each stands, why, and what both versions did.
import { millis, percent, share } from '../proxy/rollout-verdict.ts';
import type { RolloutDescription, VersionDescription } from '../runtime/rollouts.ts';

export function rolloutText(rollouts: readonly RolloutDescription[], now = Date.now()): string {
  if (rollouts.length === 0) return 'no route has a rollout\n';
  return rollouts.map((rollout) => textOf(rollout, now)).join('\n');
}

function textOf(rollout: RolloutDescription, now: number): string {
  const { route, service, state, step, steps, from, to, reason, nextStepAt } = rollout;
  const stage = state === 'complete' ? '' : `, step ${step} of ${steps.length} (${steps.map(share).join(', ')})`;
  const next = nextStepAt === null ? '' : `, next ${until(Date.parse(nextStepAt) - now)}`;
  const rows = [['', 'share', 'requests', 'failed', 'p99'], row(from, 1 - rollout.share), row(to, rollout.share)];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((cells) => cells[column].length)));
  const table = rows.map((cells) => {
    const padded = cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])));
    return `  ${padded.join('  ')}`;
  });
  return [
    `${route}: ${service} ${from.version} → ${to.version}, ${state}${stage}${next}`,
    `  ${reason}`,
    ...table,
    '',
  ].join('\n');
}

function row({ version, requests, errorRate, p99Ms }: VersionDescription, own: number): string[] {
  return [
    version,
    share(own),
    requests.toLocaleString('en-US'),
    errorRate === null ? '-' : percent(errorRate),
    p99Ms === null ? '-' : millis(p99Ms),
  ];
}

function until(ms: number): string {
  if (ms <= 0) return 'as soon as it may';
  const seconds = Math.ceil(ms / 1_000);
  return seconds < 120 ? `in ${seconds} s` : `in ${Math.round(seconds / 60)} min`;
}

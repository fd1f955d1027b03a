// How `print` and `explain` tell a chain: a line for each plugin that a request meets, and for each that it does not.
import type { ExplainedChain, ExplainedUse } from '../routing/explained-chain.ts';

export function chainLines({ chain, off }: ExplainedChain): string[] {
  const width = Math.max(0, ...[...chain, ...off].map(({ plugin }) => plugin.length));
  const named = (plugin: string): string => plugin.padEnd(width);
  const met = chain.map((link, index) => {
    const locked = link.locked ? ', locked' : '';
    const replaces = link.replaces.map((use) => `, replaces that of ${origin(use)}`).join('');
    return `${String(index + 1).padStart(2)}  ${named(link.plugin)}  ${origin(link)}${locked}${replaces}`;
  });
  const missed = off.map(
    (link) =>
      ` -  ${named(link.plugin)}  ${origin(link)}, switched off by ${origin({ from: link.by, place: link.byPlace })}`,
  );
  return chain.length + off.length === 0 ? ['no plugin'] : [...met, ...missed];
}

function origin({ from, place }: Pick<ExplainedUse, 'from' | 'place'>): string {
  return place === '' ? from : `${from} (${place})`;
}

// Beside the journey, for people: each plugin of a chain with the list that it comes from and what that changed.
import { formatPlace } from '../config/problem.ts';
import { type ChainLink, type ComposedChain, DEFAULT, type LayeredUse } from './chain-list.ts';

export interface ExplainedUse {
  readonly plugin: string;
  readonly from: string;
  /** Empty: nobody wrote it. */
  readonly place: string;
}

export interface ExplainedLink extends ExplainedUse {
  readonly locked: boolean;
  /** What it took the place of, the outermost first. */
  readonly replaces: readonly ExplainedUse[];
}

export interface ExplainedChain {
  /** In order. */
  readonly chain: readonly ExplainedLink[];
  /** Inherited, and switched off further in. */
  readonly off: readonly (ExplainedUse & { readonly by: string; readonly byPlace: string })[];
}

export function explainChain({ links, off }: ComposedChain): ExplainedChain {
  return {
    chain: links.map(explainLink),
    off: off.map(({ by, offAt, ...link }) => ({ ...explainUse(link), by, byPlace: formatPlace(offAt) })),
  };
}

function explainLink(link: ChainLink): ExplainedLink {
  return { ...explainUse(link), locked: link.use.locked === true, replaces: link.replaced.map(explainUse) };
}

function explainUse({ use, from }: LayeredUse): ExplainedUse {
  return { plugin: use.written, from, place: from === DEFAULT ? '' : formatPlace(use.at) };
}

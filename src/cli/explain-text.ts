// What `selvedge explain` prints for people; `--json` prints the explanation itself.
import type { ExplainedPolicies, ExplainedRetry } from '../routing/explained-policies.ts';
import type {
  ExplainedAction,
  ExplainedBackend,
  ExplainedCandidate,
  ExplainedVerdict,
  Explanation,
} from '../routing/explanation.ts';
import { chainLines } from './chain-text.ts';

/** Ends with a line break. */
export function explanationText(explanation: Explanation): string {
  const { listener, request, considered, refused, route, egress, redirected, authorization, unrouted } = explanation;
  const lines = [
    `listener    ${listener.role} ${listener.owner}, ${listener.name} (${listener.address})`,
    `host        ${request.host === null ? 'malformed' : request.host || 'none'}`,
    `path        ${request.path ?? 'malformed'}`,
  ];
  if (request.query !== '') lines.push(`query       ${request.query}`);
  if (considered.length > 0) lines.push('considered', ...considered.map(candidateLine));
  if (refused !== null) {
    lines.push(`answer      ${refused.status} ${refused.code}: ${refused.why}`);
    if (unrouted !== undefined)
      lines.push('chain', ...chainLines({ chain: unrouted, off: [] }).map((line) => `  ${line}`));
  } else if (redirected !== undefined) {
    lines.push(`answer      ${redirected.status}, location: ${redirected.location} (the listener has "redirect")`);
  } else if (egress !== undefined) {
    lines.push(`egress      ${egress}`);
  } else if (route !== null) {
    lines.push(`route       ${route.name} (${route.place}), by ${route.match}`);
    lines.push('chain', ...chainLines(route).map((line) => `  ${line}`));
    lines.push(...actionLines(route.action), ...(authorization ?? []).map(verdictLine));
  }
  return `${lines.join('\n')}\n`;
}

function verdictLine({ target, caller, verdict, policy }: ExplainedVerdict): string {
  const who = caller === null ? 'without an identity' : `as ${caller}`;
  const by = policy === null ? '' : ` by ${policy}`;
  const what = verdict === 'audit_denied' ? `allowed; without audit it would be denied${by}` : `${verdict}${by}`;
  return `policies    ${target}, called ${who}: ${what}`;
}

function candidateLine({ route, match, place, outcome, failed }: ExplainedCandidate): string {
  const mark = outcome === 'chosen' ? '+' : '-';
  const why = outcome === 'chosen' ? 'chosen' : outcome === 'later' ? 'matches too, but comes later' : failed;
  return `  ${mark} ${route} [${match}] (${place}): ${why}`;
}

function actionLines(action: ExplainedAction): string[] {
  switch (action.kind) {
    case 'redirect':
      return [`answer      ${action.status}, location: ${action.location}`];
    case 'respond': {
      const headers = Object.entries(action.headers).map(([name, value]) => `            ${name}: ${value}`);
      return [`answer      ${action.status}, ${Buffer.byteLength(action.body)} bytes of body`, ...headers];
    }
    case 'forward': {
      const { requestMs, perTryMs, idleMs } = action.timeouts;
      const perTry = perTryMs === 0 ? 'the rest of it' : durationText(perTryMs);
      return [
        ...action.backends.flatMap(backendLines),
        `timeouts    request ${durationText(requestMs)}, per try ${perTry}, idle ${durationText(idleMs)}`,
        ...policyLines(action.policies),
      ];
    }
  }
}

function policyLines({ retry, hedge, session, rollout }: ExplainedPolicies): string[] {
  const lines = [`retry       ${retryText(retry)}`];
  if (hedge !== null) {
    const after = hedge.afterMs === null ? `p${percent(hedge.quantile ?? 0)}` : durationText(hedge.afterMs);
    lines.push(`hedge       a second try after ${after}`);
  }
  if (session !== null) lines.push(`session     by ${session.kind} ${session.name}`);
  if (rollout !== null) {
    const { from, to, steps, everyMs } = rollout;
    const shares = steps.map((step) => `${percent(step)}%`).join(', ');
    lines.push(`rollout     from subset ${from} to ${to}: ${shares}, each for ${durationText(everyMs)}`);
  }
  return lines;
}

function retryText(retry: ExplainedRetry): string {
  if (retry.from === 'plugin') return 'as plugin "retry" says';
  const from = retry.from === 'default' ? 'default' : 'of the route';
  if (retry.attempts === 0) return `none (${from})`;
  return `${retry.attempts} more ${retry.attempts === 1 ? 'try' : 'tries'} on ${retry.on.join(', ')} (${from})`;
}

/** 0 to 1 as a percentage. */
function percent(share: number): number {
  return Number((share * 100).toFixed(2));
}

function backendLines(backend: ExplainedBackend): string[] {
  const { service, subset, share, path, host, endpoints, problem } = backend;
  const name = subset === null ? service : `${service}, subset ${subset}`;
  return [
    `forward     ${name}, ${percent(share)}% of requests, as ${path}${host === '' ? '' : ` of ${host}`}`,
    ...endpoints.map(({ address, hop, weight }) => {
      const through = hop === null ? '' : ` through its hop ${hop}`;
      return `  endpoint  ${address}${through}${weight === 1 ? '' : `, weight ${weight}`}`;
    }),
    ...(problem === null ? [] : [`  problem   ${problem}`]),
  ];
}

/** In the largest unit that keeps it whole. */
function durationText(ms: number): string {
  if (ms === 0) return 'none';
  for (const [unit, size] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const) {
    if (ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

// What every resilience scenario stands on: the real gateway between an open-loop load and faulty upstreams, and the judging of what came of it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSelvedge } from '../../../../src/index.ts';
import type { UpstreamOptions } from '../../../support/behaviour.ts';
import { Deliveries } from '../../../support/deliveries.ts';
import { spawnFaultyUpstream, type UpstreamProcess } from '../../../support/faulty-process.ts';
import { startFaultyUpstream, type Upstream } from '../../../support/faulty-upstream.ts';
import type { Answer } from '../../../support/open-load.ts';
import { freePort } from '../ports.ts';
import { type Owner, RunningProcess } from '../process.ts';

export interface Scale {
  /** Requests a second. */
  readonly rate: number;
  readonly seconds: number;
  /** Gateway and upstreams as processes of their own; false: in this process, but for upstreams that are killed. */
  readonly processes: boolean;
}

/** Share of POSTs in every load. */
export const POST_SHARE = 0.2;

export interface Check {
  readonly what: string;
  readonly measured: number;
  readonly bound: 'at most' | 'at least';
  readonly limit: number;
}

export interface Outcome {
  readonly checks: readonly Check[];
  /** Beside the checks, for the reader. */
  readonly figures: Readonly<Record<string, number | string>>;
}

export function atMost(what: string, measured: number, limit: number): Check {
  return { what, measured, bound: 'at most', limit };
}

export function atLeast(what: string, measured: number, limit: number): Check {
  return { what, measured, bound: 'at least', limit };
}

export function holds({ measured, bound, limit }: Check): boolean {
  return bound === 'at most' ? measured <= limit : measured >= limit;
}

/** What a scenario says of the config; ports are filled in. */
export interface Setting {
  readonly service?: object;
  readonly route?: object;
}

export interface Gateway {
  readonly port: number;
  /** The same setting with other endpoints; resolves when it is in force. */
  edit(endpoints: readonly Upstream[]): Promise<void>;
}

export async function startGateway(
  owner: Owner,
  { processes }: Scale,
  endpoints: readonly Upstream[],
  setting: Setting,
): Promise<Gateway> {
  const dir = mkdtempSync(join(tmpdir(), 'resilience-'));
  owner.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'selvedge.json');
  const port = await freePort();
  const configOf = (of: readonly Upstream[]): object => ({
    version: 1,
    admin: false,
    telemetry: { accessLog: false },
    drain: { grace: '0s' },
    gateways: { edge: { listeners: [{ name: 'http', host: '127.0.0.1', port }] } },
    services: { app: { endpoints: of.map((upstream) => `127.0.0.1:${upstream.port}`), ...setting.service } },
    routes: [{ name: 'app', to: 'app', ...setting.route }],
  });
  if (processes) {
    const running = await RunningProcess.start(owner, file, configOf(endpoints));
    return { port, edit: (next) => running.edit(configOf(next)) };
  }
  writeFileSync(file, JSON.stringify(configOf(endpoints)));
  const selvedge = await createSelvedge({ config: file, logger: false, watch: false });
  await selvedge.start();
  owner.teardown(() => selvedge.close({ timeoutMs: 0 }));
  return {
    port,
    async edit(next) {
      writeFileSync(file, JSON.stringify(configOf(next)));
      const { applied } = await selvedge.reload();
      if (!applied) throw new Error('the config was rejected');
    },
  };
}

export async function startUpstreams(
  owner: Owner,
  { processes }: Scale,
  count: number,
  options: UpstreamOptions = {},
): Promise<Upstream[]> {
  const start = processes ? spawnFaultyUpstream : startFaultyUpstream;
  const upstreams = await Promise.all(Array.from({ length: count }, () => start(options)));
  for (const upstream of upstreams) owner.teardown(() => upstream.close());
  return upstreams;
}

/** One that can be killed. */
export async function spawnUpstream(owner: Owner, options: UpstreamOptions): Promise<UpstreamProcess> {
  const upstream = await spawnFaultyUpstream(options);
  owner.teardown(() => upstream.close());
  return upstream;
}

export const isIdempotent = ({ method }: Answer): boolean => method === 'GET';
export const failed = ({ status }: Answer): boolean => status !== 200;

/** Without what no load has sent: health checks. */
export function deliveredTo(upstreams: readonly Upstream[]): Deliveries {
  const { all } = Deliveries.sum(upstreams.map((upstream) => upstream.deliveries()));
  return new Deliveries(all.filter(({ number }) => number >= 0));
}

/**
 * Promises of every scenario: the load was made, each request ended, and no POST was delivered twice. A POST fails only where it
 * may have been acted on: it was delivered, or left while a connection was being lost (`lostMs`: from, to).
 */
export function common(
  answers: readonly Answer[],
  upstreams: readonly Upstream[],
  { rate, seconds }: Scale,
  lostMs: readonly [number, number] | null = null,
): Check[] {
  const deliveries = deliveredTo(upstreams).byNumber();
  const posts = answers.filter((answer) => !isIdempotent(answer));
  const mayBeLost = ({ sentMs, latencyMs }: Answer): boolean =>
    lostMs !== null && sentMs + latencyMs >= lostMs[0] && sentMs <= lostMs[1];
  return [
    atLeast('requests made', answers.length, Math.round(rate * seconds)),
    atMost('requests without an answer', answers.filter(({ error }) => error === 'no answer').length, 0),
    atMost('POSTs delivered twice', posts.filter(({ number }) => (deliveries.get(number) ?? 0) > 1).length, 0),
    atMost(
      'POSTs failed that no endpoint had taken',
      posts.filter((post) => failed(post) && !deliveries.has(post.number) && !mayBeLost(post)).length,
      0,
    ),
  ];
}

/** Statuses and error codes with their counts: `200 ×970, 503 ×30 (SLV_NO_ENDPOINT)`. */
export function tally(answers: readonly Answer[]): string {
  const counts = new Map<string, number>();
  for (const { status, error, method } of answers) {
    const name = status === 200 ? '200' : `${method} ${status || ''}${error === '' ? '' : ` ${error}`}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => `${name} ×${count}`).join(', ');
}

export function p99(answers: readonly Answer[]): number {
  const sorted = answers.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  return Math.round(sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0);
}

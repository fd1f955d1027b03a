// An open-loop load: requests leave at their times whether or not earlier ones were answered, and none is sent twice by the client.
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { NUMBER_HEADER } from './deliveries.ts';

export interface LoadOptions {
  readonly port: number;
  /** Requests a second. */
  readonly rate: number;
  readonly seconds: number;
  /** Share of POSTs, 0 to 1, spread evenly; the others are GETs. Default 0. */
  readonly postShare?: number;
  /** Requests leave in bursts so far apart, all of a burst at once; default: evenly. */
  readonly burstEveryMs?: number;
  /** How long after the last request answers are waited for. Default 15 s. */
  readonly patienceMs?: number;
}

/** One request as its client saw it. */
export interface Answer {
  readonly number: number;
  readonly method: 'GET' | 'POST';
  /** Milliseconds from the start of the load. */
  readonly sentMs: number;
  latencyMs: number;
  /** 0: no response, or not a whole one. */
  status: number;
  /** The `code` of the gateway's own answer, or what became of the connection; empty where the endpoint answered. */
  error: string;
}

export interface Load {
  /** Every answer is there, or has been given up. In the order of sending. */
  readonly done: Promise<readonly Answer[]>;
  /** Milliseconds since the first request was due. */
  readonly elapsedMs: number;
  /** Resolves at that time of the load. */
  until(ms: number): Promise<void>;
  /** Sends no more; `done` follows. */
  stop(): void;
  /** How late the latest request left: the driver's own fault, for whoever reads latencies. */
  readonly latestMs: number;
}

/** Requests that may be under way at once; one more is an error of its own, and no load that a test makes comes near. */
const MAX_UNDER_WAY = 5_000;
const TICK_MS = 3;
const POST_BODY = Buffer.alloc(64, 'p');

export function openLoad(options: LoadOptions): Load {
  const { port, rate, seconds, postShare = 0, burstEveryMs, patienceMs = 15_000 } = options;
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: MAX_UNDER_WAY });
  const answers: Answer[] = [];
  const underWay = new Set<ClientRequest>();
  const startedAt = performance.now();
  const elapsed = (): number => performance.now() - startedAt;
  let total = Math.round(rate * seconds);
  let latestMs = 0;
  const perBurst = burstEveryMs === undefined ? 1 : Math.max(1, Math.round((rate * burstEveryMs) / 1000));
  const dueMs = (number: number): number => (Math.floor(number / perBurst) * perBurst * 1000) / rate;

  let finish: (answers: readonly Answer[]) => void;
  const done = new Promise<readonly Answer[]>((resolve) => {
    finish = resolve;
  });
  let givenUp: NodeJS.Timeout | null = null;
  const settle = (): void => {
    if (answers.length < total || underWay.size > 0) return;
    if (givenUp !== null) clearTimeout(givenUp);
    agent.destroy();
    finish(answers);
  };

  const send = (number: number): void => {
    const isPost = Math.floor((number + 1) * postShare) > Math.floor(number * postShare);
    const answer: Answer = {
      number,
      method: isPost ? 'POST' : 'GET',
      sentMs: elapsed(),
      latencyMs: 0,
      status: 0,
      error: '',
    };
    answers.push(answer);
    if (underWay.size >= MAX_UNDER_WAY) {
      answer.error = 'too many under way';
      return;
    }
    const over = (error: string): void => {
      if (!underWay.delete(call)) return;
      answer.latencyMs = elapsed() - answer.sentMs;
      answer.error = error;
      settle();
    };
    const call = request(
      {
        host: '127.0.0.1',
        port,
        path: '/load',
        method: answer.method,
        agent,
        headers: isPost ? { [NUMBER_HEADER]: number, 'content-length': POST_BODY.length } : { [NUMBER_HEADER]: number },
      },
      (res) => readWhole(res, answer, over),
    );
    underWay.add(call);
    call.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
    call.end(isPost ? POST_BODY : undefined);
  };

  const timer = setInterval(() => {
    const now = elapsed();
    while (answers.length < total && dueMs(answers.length) <= now) {
      latestMs = Math.max(latestMs, now - dueMs(answers.length));
      send(answers.length);
    }
    if (answers.length < total) return;
    clearInterval(timer);
    givenUp = setTimeout(() => {
      for (const call of underWay) call.destroy(new Error('no answer'));
    }, patienceMs);
    settle();
  }, TICK_MS);

  return {
    done,
    get elapsedMs() {
      return elapsed();
    },
    get latestMs() {
      return latestMs;
    },
    until: (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms - elapsed()))),
    stop() {
      total = answers.length;
    },
  };
}

function readWhole(res: IncomingMessage, answer: Answer, over: (error: string) => void): void {
  const ownAnswer = res.headers['content-type'] === 'application/problem+json';
  let body = '';
  if (ownAnswer) res.setEncoding('latin1').on('data', (chunk: string) => (body += chunk));
  else res.resume();
  res.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
  res.on('end', () => {
    answer.status = res.statusCode as number;
    over(ownAnswer ? (/"code":\s*"(\w+)"/.exec(body)?.[1] ?? 'problem') : '');
  });
}

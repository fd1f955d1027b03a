// A SPIFFE Workload API on a unix socket, by @grpc/grpc-js: answers what a test wants it to.
import { createPrivateKey } from 'node:crypto';
import { rmSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import { lengthDelimited } from '../../../src/http/grpc-wire.ts';
import type { Svid } from '../../../src/identity/source.ts';
import { chainOf, type Domain } from './authorities.ts';

type Call = grpc.ServerWritableStream<Buffer, Buffer>;

export class WorkloadApi {
  readonly path: string;
  /** What the next call gets first: a message, or an error. */
  answer: Buffer | grpc.StatusObject;
  /** Metadata `workload.spiffe.io` of each call. */
  readonly calls: (string | undefined)[] = [];
  readonly #open = new Set<Call>();
  #server: grpc.Server | null = null;

  constructor(path: string, answer: Buffer | grpc.StatusObject) {
    this.path = path;
    this.answer = answer;
  }

  async start(): Promise<void> {
    const server = new grpc.Server();
    const raw = (octets: Buffer): Buffer => octets;
    server.addService(
      {
        fetch: {
          ...{ path: '/SpiffeWorkloadAPI/FetchX509SVID', requestStream: false, responseStream: true },
          ...{ requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw },
        },
      },
      { fetch: (call: Call) => this.#called(call) },
    );
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${this.path}`, grpc.ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    this.#server = server;
  }

  stop(): void {
    this.#server?.forceShutdown();
    this.#server = null;
    this.#open.clear();
    rmSync(this.path, { force: true });
  }

  /** To every open call. */
  push(message: Buffer): void {
    this.answer = message;
    for (const call of this.#open) call.write(message);
  }

  get open(): number {
    return this.#open.size;
  }

  #called(call: Call): void {
    this.calls.push(call.metadata.get('workload.spiffe.io')[0]?.toString());
    if (!Buffer.isBuffer(this.answer)) {
      call.emit('error', this.answer);
      return;
    }
    this.#open.add(call);
    call.on('close', () => this.#open.delete(call));
    call.on('cancelled', () => this.#open.delete(call));
    call.write(this.answer);
  }
}

export function denied(details: string): grpc.StatusObject {
  return { code: grpc.status.PERMISSION_DENIED, details, metadata: new grpc.Metadata() };
}

/** X509SVIDResponse. */
export function response(svids: readonly Buffer[], federated: Readonly<Record<string, Buffer>> = {}): Buffer {
  const entries = Object.entries(federated).map(([id, bundle]) =>
    lengthDelimited(3, Buffer.concat([text(1, id), lengthDelimited(2, bundle)])),
  );
  return Buffer.concat([...svids.map((svid) => lengthDelimited(1, svid)), ...entries]);
}

/** X509SVID, as an agent sends it: DER, certificates joined. */
export function svidMessage(svid: Svid, domain: Domain, id = svid.id, hint = ''): Buffer {
  return Buffer.concat([
    text(1, id),
    lengthDelimited(2, Buffer.concat(chainOf(svid.cert).map(({ raw }) => raw))),
    lengthDelimited(3, createPrivateKey(svid.key).export({ type: 'pkcs8', format: 'der' })),
    lengthDelimited(4, rootsOf(domain.bundle)),
    ...(hint === '' ? [] : [text(5, hint)]),
  ]);
}

/** DER, joined. */
export function rootsOf(bundle: string): Buffer {
  return Buffer.concat(chainOf(bundle).map(({ raw }) => raw));
}

function text(field: number, value: string): Buffer {
  return lengthDelimited(field, Buffer.from(value));
}

// Asks an endpoint by connecting, TLS included where it has TLS, and closing again.
import type { Socket } from 'node:net';
import type { Endpoint } from '../endpoint.ts';
import { openSocket } from './open-socket.ts';
import { failureDetail, type Probe, type ProbeDone } from './probe.ts';

export function tcpProbe(endpoint: Endpoint): Probe {
  let socket: Socket | null = null;

  function begin(done: ProbeDone): void {
    socket = openSocket(endpoint, endpoint.tls, (error) => {
      abort();
      done(error === null, error === null ? 'connected' : failureDetail(error));
    });
  }

  function abort(): void {
    socket?.destroy();
    socket = null;
  }

  return { begin, abort, close: abort };
}

// Connections of TCP services, counted for Prometheus. Labels are names of the config and reasons of ours.
import { Counter, Gauge, type Registry } from 'prom-client';

export interface OpenTcp {
  readonly service: string;
  readonly side: string;
  /** What was passed on since it was asked last. */
  takeBytes(): { readonly in: number; readonly out: number };
}

export interface TcpMetrics {
  readonly connections: Counter<'service' | 'side' | 'reason'>;
  readonly connects: Counter<'service' | 'side' | 'endpoint' | 'outcome'>;
  readonly plaintext: Counter<'service' | 'caller'>;
  readonly authorization: Counter<'target' | 'policy' | 'verdict'>;
  /** Adds what the connection has passed on since it was counted last. */
  countBytes(connection: OpenTcp): void;
}

/** @param open read when somebody scrapes: connections last for days, and count all along */
export function tcpMetrics(registry: Registry, open: () => Iterable<OpenTcp>): TcpMetrics {
  const registers = [registry];
  const bytes = new Counter({
    name: 'selvedge_tcp_bytes_total',
    help: 'Bytes of TCP services, by the side of the hop and by direction: in, from the client, and out, to it.',
    labelNames: ['service', 'side', 'direction'],
    registers,
    collect: () => {
      for (const connection of open()) countBytes(connection);
    },
  });
  function countBytes(connection: OpenTcp): void {
    const { service, side } = connection;
    const moved = connection.takeBytes();
    if (moved.in > 0) bytes.inc({ service, side, direction: 'in' }, moved.in);
    if (moved.out > 0) bytes.inc({ service, side, direction: 'out' }, moved.out);
  }
  new Gauge({
    name: 'selvedge_tcp_open_connections',
    help: 'Connections of TCP services that are open, by the side of the hop.',
    labelNames: ['service', 'side'],
    registers,
    collect() {
      this.reset();
      for (const { service, side } of open()) this.inc({ service, side });
    },
  });
  return {
    connections: new Counter({
      name: 'selvedge_tcp_connections_total',
      help: 'Connections of TCP services that are over, by the side of the hop and by why; no reason: closed by both ends.',
      labelNames: ['service', 'side', 'reason'],
      registers,
    }),
    connects: new Counter({
      name: 'selvedge_tcp_connects_total',
      help: 'Tries to connect to an endpoint of a TCP service, by the side of the hop and by outcome.',
      labelNames: ['service', 'side', 'endpoint', 'outcome'],
      registers,
    }),
    plaintext: new Counter({
      name: 'selvedge_tcp_plaintext_connections_total',
      help: 'Connections that came to the hop of a TCP service without TLS, while mtls is permissive, by who opened them as far as addresses tell.',
      labelNames: ['service', 'caller'],
      registers,
    }),
    authorization: new Counter({
      name: 'selvedge_tcp_authorization_total',
      help: 'Connections that authorization policies were asked about, by what they said.',
      labelNames: ['target', 'policy', 'verdict'],
      registers,
    }),
    countBytes,
  };
}

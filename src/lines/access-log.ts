// The access log's way out of the process: one writer for everybody who has a line, with what is lost counted.
import type { Logger } from 'pino';
import { Counter, type Registry } from 'prom-client';
import { type LineWriter, openLines } from './line-writer.ts';

export const STDOUT = 1;

/** Characters held while the destination is slow; half of what the process's own words may fill, so that there is room for them. */
const MAX_PENDING = 8 * 1_048_576;

const DROPPED = 'selvedge_access_log_dropped_total';

/** To a file descriptor, or the path of a file; see `openLines`. */
export function openAccessLog(
  destination: number | string,
  registry: Registry,
  logger: Pick<Logger, 'error'>,
): LineWriter {
  const dropped =
    (registry.getSingleMetric(DROPPED) as Counter | undefined) ??
    new Counter({
      name: DROPPED,
      help: 'Access log lines lost because their destination was too slow or failed',
      registers: [registry],
    });
  const written = destination === STDOUT ? 'stdout' : destination;
  return openLines(destination, {
    maxPending: MAX_PENDING,
    onTrouble: (err) => logger.error({ err, destination: written }, 'the access log cannot be written'),
    onDrop: (lines) => dropped.inc(lines),
  });
}

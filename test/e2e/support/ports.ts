// Ports for listeners whose number must be known before they open, and that may open, close and open again.
import { createServer } from 'node:net';

/** Below the range that the kernel takes ports of outgoing connections from: nobody's client gets it meanwhile. */
const FIRST = 20_000;
const LAST = 32_000;

/** Test files run side by side, each in a lane of the runner: of ports of its lane alone, nobody takes another's between the look and the use. */
const LANES = 16;
const OWN = Math.floor((LAST - FIRST) / LANES);
const OWN_FIRST = FIRST + ((Number(process.env.TEST_LANE ?? process.pid) || 0) % LANES) * OWN;

/** Walked in order, so that none is given twice before all have been; a process that a test starts begins elsewhere in the same lane. */
let next = Math.floor(Math.random() * OWN);

export async function freePort(): Promise<number> {
  for (;;) {
    const port = OWN_FIRST + next;
    next = (next + 1) % OWN;
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

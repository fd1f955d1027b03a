// Ports for listeners whose number must be known before they open, and that may open, close and open again.
import { createServer } from 'node:net';

/** Below the range that the kernel takes ports of outgoing connections from: nobody's client gets it meanwhile. */
const FIRST = 20_000;
const LAST = 32_000;

/** Test files run side by side, each a process: from a part of the range of its own nobody takes another's port between the look and the use. */
const OWN = Math.floor((LAST - FIRST) / 64);
const OWN_FIRST = FIRST + (process.pid % 64) * OWN;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = OWN_FIRST + Math.floor(Math.random() * OWN);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

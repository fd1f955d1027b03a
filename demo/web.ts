// The demo's web service: a page, a stream of server-sent events, and a WebSocket that echoes.
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import Fastify, { type FastifyInstance } from 'fastify';
import { WebSocketServer } from 'ws';

const page = `<!doctype html>
<meta charset="utf-8">
<title>The shop</title>
<style>body { font: 16px/1.5 system-ui; max-width: 40rem; margin: 3rem auto; padding: 0 1rem } pre { background: #f4f4f4; padding: 1rem }</style>
<h1>The shop</h1>
<p>Orders, by way of the gateway, a hop, the orders service, two more hops and the inventory service:</p>
<pre id="orders">…</pre>
<p>Events: <b id="event">…</b> · Echo: <b id="echo">…</b></p>
<script type="module">
  const show = (id, text) => { document.getElementById(id).textContent = text };
  show('orders', JSON.stringify(await (await fetch('/orders')).json(), null, 2));
  new EventSource('/events').onmessage = ({ data }) => show('event', data);
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
  socket.onopen = () => socket.send('hello');
  socket.onmessage = ({ data }) => show('echo', data);
</script>
`;

/** One event a second until the reader leaves. */
async function* ticks(signal: AbortSignal): AsyncGenerator<string> {
  for (let count = 1; !signal.aborted; count += 1) {
    yield `id: ${count}\ndata: tick ${count}\n\n`;
    await wait(1000, undefined, { signal }).catch(() => {});
  }
}

export function web(): FastifyInstance {
  const app = Fastify({ forceCloseConnections: true });
  app.get('/', async (_request, reply) => reply.type('text/html; charset=utf-8').send(page));
  app.get('/events', async (_request, reply) => {
    const left = new AbortController();
    reply.raw.on('close', () => left.abort());
    return reply
      .type('text/event-stream')
      .header('cache-control', 'no-cache')
      .send(Readable.from(ticks(left.signal), { objectMode: false }));
  });

  const sockets = new WebSocketServer({ server: app.server, path: '/ws', maxPayload: 64 * 1024 });
  sockets.on('connection', (socket) => {
    socket.on('error', () => socket.terminate());
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  app.addHook('preClose', async () => {
    for (const socket of sockets.clients) socket.terminate();
    sockets.close();
  });
  return app;
}

// An application of the mesh: asks the services that it needs, all at once, and answers when they have. By itself it knows nothing of
// hops: what it was started with leads its calls there. `node app.ts PORT SERVICE…`
import { Agent, createServer, request } from 'node:http';

const [port, ...needs] = process.argv.slice(2);
const parent = process.ppid;
// One agent for all calls; it takes its proxy from the environment as Node's own does.
const agent = new Agent({ keepAlive: true, proxyEnv: process.env } as never);

function ask(service: string, method: string): Promise<number> {
  return new Promise((resolve) => {
    const call = request(`http://${service}/load`, { method, agent }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', () => resolve(0));
    });
    call.on('error', () => resolve(0));
    call.end(method === 'POST' ? 'order' : undefined);
  });
}

createServer(async (incoming, outgoing) => {
  incoming.resume();
  const statuses = await Promise.all(needs.map((service) => ask(service, incoming.method as string)));
  const failed = needs.filter((_, index) => statuses[index] !== 200);
  outgoing.writeHead(failed.length === 0 ? 200 : 500, { 'content-type': 'text/plain' });
  outgoing.end(failed.length === 0 ? 'x'.repeat(1024) : `failed: ${failed.join(', ')}`);
}).listen(Number(port), '127.0.0.1');

// A hop that was killed cannot end its application.
setInterval(() => {
  if (process.ppid !== parent) process.exit(1);
}, 500);

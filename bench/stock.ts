// The peer that Selvedge has to beat by three times: @fastify/http-proxy as it comes.
import httpProxy from '@fastify/http-proxy';
import fastify from 'fastify';

const [port, upstream] = process.argv.slice(2);
const app = fastify();
await app.register(httpProxy, { upstream: `http://127.0.0.1:${upstream}` });
await app.listen({ port: Number(port), host: '127.0.0.1' });

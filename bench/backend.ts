// The backend of the benchmark where nginx is not installed: 1 KiB, as cheaply as Node answers.
import { createServer } from 'node:http';

const body = Buffer.alloc(1024, 'x');
const headers = { 'content-type': 'text/plain', 'content-length': String(body.length) };
createServer((_req, res) => {
  res.writeHead(200, headers);
  res.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');

// The backend of big bodies: GET /N answers N bytes, PUT counts what comes and answers how many there were.
import { createServer } from 'node:http';
import { Readable } from 'node:stream';

const block = Buffer.alloc(64 * 1024, 'x');

function* bytes(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= block.length) yield left < block.length ? block.subarray(0, left) : block;
}

createServer((request, response) => {
  if (request.method === 'GET') {
    const count = Number(request.url?.slice(1)) || 1;
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': String(count) });
    Readable.from(bytes(count), { objectMode: false, highWaterMark: block.length }).pipe(response);
    return;
  }
  let count = 0;
  request.on('data', (chunk: Buffer) => {
    count += chunk.length;
  });
  request.on('end', () => response.end(String(count)));
}).listen(Number(process.argv[2]), '127.0.0.1');

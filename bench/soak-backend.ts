// The services of the soak: small answers, one of 256 KiB in pieces, and uploads that are read to their end or to their abort.
import { createServer } from 'node:http';

const small = Buffer.from(
  JSON.stringify({ items: Array.from({ length: 20 }, (_, id) => ({ id, name: `item ${id}` })) }),
);
const piece = Buffer.alloc(32 * 1024, 'x');
const PIECES = 8;

createServer((request, response) => {
  request.on('error', () => {});
  response.on('error', () => {});
  if (request.method === 'POST') {
    let count = 0;
    request.on('data', (chunk: Buffer) => {
      count += chunk.length;
    });
    request.on('end', () => response.end(String(count)));
    return;
  }
  if (request.url !== '/big') {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': String(small.length) });
    response.end(small);
    return;
  }
  response.writeHead(200, { 'content-length': String(PIECES * piece.length) });
  let sent = 0;
  const next = (): void => {
    if (response.destroyed) return;
    sent += 1;
    if (sent === PIECES) response.end(piece);
    else response.write(piece, () => setImmediate(next));
  };
  next();
}).listen(Number(process.argv[2]), '127.0.0.1');

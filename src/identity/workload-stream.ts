// One call of FetchX509SVID over the unix socket of a SPIFFE Workload API: messages as they come, and why it ended.
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { FRAME_HEAD_BYTES, frame, grpcStatusName } from '../http/grpc-wire.ts';

/** Bytes of one message at most: gRPC's own default. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

export interface WorkloadStreamHandler {
  /** One whole message. Not null: what is wrong with it, and the call is `ended`. */
  readonly message: (message: Buffer) => string | null;
  /** Once, unless it was closed before. `reason`: a clause for the log. */
  readonly ended: (reason: string) => void;
}

/** Returns how to close it. */
export function openWorkloadStream(path: string, handler: WorkloadStreamHandler): () => void {
  let over = false;
  const session = openSession(path);
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
      te: 'trailers',
      'content-type': 'application/grpc',
      'user-agent': 'selvedge',
      // Proves that no other client was tricked into calling (section 3, SSRF).
      'workload.spiffe.io': 'true',
    },
    { endStream: false },
  );

  function end(reason: string | null): void {
    if (over) return;
    over = true;
    stream.close(constants.NGHTTP2_CANCEL);
    session.destroy();
    if (reason !== null) handler.ended(reason);
  }

  const take = splitMessages(
    (message) => {
      const fault = handler.message(message);
      if (fault !== null) end(fault);
      return !over;
    },
    (reason) => end(reason),
  );
  let status: number | undefined;
  let answer: IncomingHttpHeaders = {};
  stream.on('response', (headers) => {
    status = headers[':status'];
    answer = { ...answer, ...headers };
    if (status !== 200) end(`it answers with HTTP status ${status}`);
  });
  stream.on('trailers', (trailers) => {
    answer = { ...answer, ...trailers };
  });
  stream.on('data', (chunk: Buffer) => {
    if (!over) take(chunk);
  });
  stream.on('error', (error) => end(rootMessage(error)));
  stream.on('close', () => end(closeReason(answer)));
  session.on('error', (error) => end(rootMessage(error)));
  session.on('close', () => end('the connection was closed'));
  // WorkloadX509SVIDRequest has no fields.
  stream.end(frame(Buffer.alloc(0)));
  return () => end(null);
}

function openSession(path: string): ClientHttp2Session {
  return connect('http://localhost', {
    createConnection: () => connectSocket(path),
    settings: { enablePush: false },
    // Megabytes: the smallest bound of what is kept for headers and streams.
    maxSessionMemory: 1,
    maxHeaderListPairs: 64,
  });
}

/** A stream that waited for the connection says of itself only that it was cancelled. */
function rootMessage(error: Error): string {
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function closeReason({ 'grpc-status': code, 'grpc-message': message }: IncomingHttpHeaders): string {
  if (typeof code !== 'string') return 'the stream was closed';
  if (code === '0') return 'it ended the stream';
  const said = typeof message === 'string' && message !== '' ? ` (${decode(message).slice(0, 200)})` : '';
  return `it answers ${grpcStatusName(code)}${said}`;
}

/** Percent-encoded, by the protocol. */
function decode(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

/** Chunks to whole messages. `take` returns whether to go on. Keeps at most one message. */
function splitMessages(take: (message: Buffer) => boolean, refuse: (reason: string) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let bytes = 0;
  /** What the next step needs: the head of a message, then all of it. */
  let wanted = FRAME_HEAD_BYTES;
  return (chunk) => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes < wanted) return;
    let rest = Buffer.concat(chunks);
    wanted = FRAME_HEAD_BYTES;
    while (rest.length >= wanted) {
      if (rest[0] !== 0) return refuse('it sent a compressed message');
      const length = rest.readUInt32BE(1);
      if (length > MAX_MESSAGE_BYTES) return refuse(`it sent a message of more than ${MAX_MESSAGE_BYTES} bytes`);
      wanted = FRAME_HEAD_BYTES + length;
      if (rest.length < wanted) break;
      if (!take(rest.subarray(FRAME_HEAD_BYTES, wanted))) return;
      rest = rest.subarray(wanted);
      wanted = FRAME_HEAD_BYTES;
    }
    chunks = [rest];
    bytes = rest.length;
  };
}

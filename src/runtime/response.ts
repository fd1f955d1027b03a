// Node's response, which sends a small body that arrives whole in one write with its head.
import { type IncomingMessage, ServerResponse } from 'node:http';

/** Larger bodies gain nothing: copying them costs what the second buffer of a writev does. */
const ONE_WRITE_BYTES = 16_384;

/**
 * `end(buffer)` on a response whose head is unsent makes Node send two buffers (writev); `end(string)` joins head and body to one latin1
 * string, which libuv writes from the stack. Latin1 maps every byte to one character and back, so the bytes on the wire are the same.
 */
export class OneWriteResponse<R extends IncomingMessage = IncomingMessage> extends ServerResponse<R> {
  // biome-ignore lint/suspicious/noExplicitAny: the overloads of ServerResponse.end cannot be written otherwise
  override end(chunk?: any, encoding?: any, callback?: any): this {
    if (chunk instanceof Buffer && chunk.length <= ONE_WRITE_BYTES && chunk.length > 0 && !(this as HeadState)._headerSent) {
      return super.end(chunk.toString('latin1'), 'latin1', typeof encoding === 'function' ? encoding : callback);
    }
    return super.end(chunk, encoding, callback);
  }
}

/** Node's own mark that the head was written to the socket; where it is missing the result is the same, only not one write. */
interface HeadState {
  readonly _headerSent?: boolean;
}

// Node's request, counting its payload as the parser delivers it: what body limits, slow-body checks and the access log read.
import { IncomingMessage } from 'node:http';

export class MeteredRequest extends IncomingMessage {
  /** Payload bytes delivered by the parser. */
  receivedBytes = 0;
  /** Called when `receivedBytes` grows past `byteLimit`; at most once, because the limit is lifted first. */
  onOverflow: (() => void) | null = null;
  byteLimit = Number.POSITIVE_INFINITY;

  override push(chunk: Buffer | null, encoding?: BufferEncoding): boolean {
    if (chunk !== null) {
      this.receivedBytes += chunk.length;
      if (this.receivedBytes > this.byteLimit) {
        this.byteLimit = Number.POSITIVE_INFINITY;
        this.onOverflow?.();
      }
    }
    return super.push(chunk, encoding);
  }
}

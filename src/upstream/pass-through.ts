// What a layer that only watches has in common: every event goes on to the handler above.
import type { Duplex } from 'node:stream';
import type { DispatchController, DispatchHandler, ResponseHeaders } from '../dispatch.ts';

export class PassThrough implements DispatchHandler {
  protected readonly handler: DispatchHandler;

  constructor(handler: DispatchHandler) {
    this.handler = handler;
  }

  onRequestStart(controller: DispatchController, context: unknown): void {
    this.handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    socket: Duplex,
    head?: Buffer,
  ): void {
    this.handler.onRequestUpgrade?.(controller, statusCode, headers, socket, head);
  }

  onResponseStart(
    controller: DispatchController,
    statusCode: number,
    headers: ResponseHeaders,
    statusMessage?: string,
  ): void {
    this.handler.onResponseStart?.(controller, statusCode, headers, statusMessage);
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    this.handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: DispatchController, trailers: ResponseHeaders): void {
    this.handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: DispatchController | null, error: Error): void {
    this.handler.onResponseError?.(controller, error);
  }
}

// Asks the Selvedge that runs on this machine, if one does, for a page of its admin API. Silence is an answer too.
import { get } from 'node:http';
import { isIPv4 } from 'node:net';
import type { Admin } from '../config/model.ts';
import { formatHostPort } from '../http/address.ts';

/** Resolves with the parsed page, or with null: nobody is there, or it is not what was asked for. Never rejects. */
export type AskAdmin = (admin: Admin, path: string) => Promise<unknown>;

const TIMEOUT_MS = 300;

const MAX_BYTES = 4 * 1024 * 1024;

/** Only on a loopback address with a fixed port; anybody else may be anything. */
export const askAdmin: AskAdmin = (admin, path) => {
  if (!isLoopback(admin.host) || admin.port === 0) return Promise.resolve(null);
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const url = `http://${formatHostPort(admin.host, admin.port)}${path}`;
    const request = get(url, { agent: false, signal }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BYTES) request.destroy();
      });
      response.on('error', () => resolve(null));
      response.on('end', () => resolve(response.statusCode === 200 ? parse(text) : null));
      response.on('close', () => resolve(null));
    });
    request.on('error', () => resolve(null));
  });
};

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// What the rules of one service are called: readable, never the same for two services, and safe in every syntax they stand in.
import { createHash } from 'node:crypto';

/** XT_EXTENSION_MAXNAMELEN less the final NUL. */
const MAX_CHAIN = 28;

const SAFE = /^[a-z0-9][a-z0-9_-]*$/;

/** `selvedge_orders`. */
export function tableName(service: string): string {
  return `selvedge_${unique(service, 64)}`;
}

/** `SELVEDGE_ORDERS_OUT`. */
export function chainName(service: string, suffix: 'OUT' | 'IN' | 'SHUT'): string {
  const room = MAX_CHAIN - 'SELVEDGE_'.length - '_SHUT'.length;
  return `SELVEDGE_${unique(service, room).toUpperCase()}_${suffix}`;
}

/** For comments: one line of plain characters. */
export function plain(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

function unique(service: string, room: number): string {
  if (SAFE.test(service) && service.length <= room) return service;
  const digest = createHash('sha256').update(service).digest('hex').slice(0, 6);
  const readable = service.toLowerCase().replace(/[^a-z0-9]/g, '_');
  return `${readable.slice(0, room - digest.length - 1)}_${digest}`;
}

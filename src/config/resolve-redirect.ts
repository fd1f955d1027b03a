// Resolves `redirect` of a listener: where plain requests are sent instead of being served.
import type { CompleteListener } from './complete.ts';
import type { Cursor } from './cursor.ts';
import type { Listener } from './model.ts';

/** @param siblings every listener of the gateway, this one included */
export function resolveRedirect(
  listener: Cursor<CompleteListener>,
  siblings: readonly Cursor<CompleteListener>[],
): Listener['redirect'] {
  const written = listener.at('redirect').given();
  if (written === null) return null;
  if (listener.value.tls !== undefined)
    written.error('this listener has "tls", so its requests come by https already: redirect those of a plain one');
  const map = written as Cursor<{ readonly port?: number }>;
  const port = map.at('port').given();
  if (port !== null) return { port: port.value };
  const secure = siblings.find(({ value }) => value.tls !== undefined);
  if (secure === undefined) {
    written.warn(
      'no listener of this gateway has "tls": clients are sent to port 443, where something else has to answer; "port" says otherwise',
    );
    return { port: 443 };
  }
  if (secure.value.port === 0)
    written.error(`listener "${secure.value.name}" takes any free port: say by "port" where clients reach it`);
  return { port: secure.value.port };
}

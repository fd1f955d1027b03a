// The plugins of a gateway, listener, service or route, as the config wrote them.
import type { Place } from './place.ts';

/** One link of a chain as the config wrote it. Paths inside are absolute. */
export interface PluginUse {
  /** Built-in name, package name, or absolute path of a module. */
  readonly name: string;
  /** As written, for messages. */
  readonly written: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly at: Place;
  /** Folder that packages are resolved from. */
  readonly baseDir: string;
  /** Lists further in can neither replace it nor switch it off; of gateways and listeners. */
  readonly locked?: true;
  /** Absolute paths of files that the options name: the chain is another one when their content is. */
  readonly files?: readonly string[];
}

/** `- cors: false`: switches an inherited plugin off; of listeners and routes. */
export interface PluginOff {
  readonly off: string;
  readonly at: Place;
}

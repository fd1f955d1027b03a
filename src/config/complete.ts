// The type of a config with its shorthand written out and its defaults filled in: what the resolver walks.
import type { ConfigInput } from './define.ts';

/** Of `string | { … }` the written-out form; of `one | { … } | list` the list. */
type LongForm<T> =
  Extract<NonNullable<T>, readonly unknown[]> extends never
    ? Extract<NonNullable<T>, object> extends never
      ? T
      : Exclude<T, string | true>
    : Extract<T, readonly unknown[] | undefined>;

type Complete<T> = T extends readonly (infer U)[]
  ? Complete<LongForm<U>>[]
  : T extends object
    ? { [K in keyof T]: Complete<LongForm<T[K]>> }
    : T;

export type CompleteConfig = Complete<ConfigInput>;
export type CompleteGateway = NonNullable<CompleteConfig['gateways']>[string];
export type CompleteListener = CompleteGateway['listeners'][number];
export type CompleteService = NonNullable<CompleteConfig['services']>[string];
export type CompleteRoute = NonNullable<CompleteConfig['routes']>[number];
export type CompletePlugin = NonNullable<CompleteRoute['plugins']>[number];

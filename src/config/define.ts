// What a config in TypeScript imports: types and one identity function, without the machinery that reads configs.
import type { Static } from 'typebox';
import type { ConfigSchema } from './schema.ts';

/** A config as users write it. */
export type ConfigInput = Static<typeof ConfigSchema>;

/** Gives an object the types of a config: `export default defineConfig({ version: 1, … })`. */
export function defineConfig(input: ConfigInput): ConfigInput {
  return input;
}

// The config's schema as a function. The build replaces this module by what Ajv makes of it, so that a start has nothing to compile.
import { Ajv, type Options, type ValidateFunction } from 'ajv';
import { ConfigSchema } from './schema.ts';

/** Also what the build compiles with. */
export const VALIDATOR_OPTIONS: Options = {
  allErrors: true,
  verbose: true,
  allowUnionTypes: true,
  keywords: ['patternErrorMessage'],
  // The schema is ours and a test holds it against the meta-schema: half of the time that compiling takes.
  meta: false,
  validateSchema: false,
  code: { optimize: false },
};

let compiled: ValidateFunction | undefined;

export function configValidator(): ValidateFunction {
  compiled ??= new Ajv(VALIDATOR_OPTIONS).compile(ConfigSchema);
  return compiled;
}

// Validators of the built-in plugins' options. The build replaces this module by what Ajv makes of them: nothing to compile at a start.
import type { ValidateFunction } from 'ajv';

/** Undefined: it has to be compiled. */
export function optionValidator(_builtin: string): ValidateFunction | undefined {
  return undefined;
}

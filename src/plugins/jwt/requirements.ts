// What verified claims have to say beyond who issued them, and what of them the service is told in headers.
import { claimReader } from '../../policies/authorization-conditions.ts';
import { Refusal } from './refusal.ts';
import type { Claims } from './verified-tokens.ts';

type Scalar = string | number | boolean;
export type RequiredClaim = Scalar | readonly Scalar[] | { readonly present: true };

/** Null: they meet everything. */
export type Requirement = (claims: Claims) => Refusal | null;

/** Every scope is needed. `claim` null: `scope`, else `scp`. */
export function scopeRequirement(scopes: readonly string[], claim: string | null): Requirement {
  const readers = (claim === null ? ['scope', 'scp'] : [claim]).map(claimReader);
  return (claims) => {
    const given = readers.map((read) => read(claims)).find((value) => value !== undefined) ?? [];
    const granted = typeof given === 'string' ? given.split(' ') : given;
    const lacking = scopes.find((scope) => !granted.includes(scope));
    return lacking === undefined ? null : new Refusal('scope', `the token has no scope "${lacking}"`);
  };
}

/** Of a claim that is a list, one element is enough; of several wanted values, one. */
export function claimRequirement(name: string, wanted: RequiredClaim): Requirement {
  const read = claimReader(name);
  const texts = (Array.isArray(wanted) ? wanted : [wanted]).map(String);
  const any = typeof wanted === 'object' && 'present' in wanted;
  return (claims) => {
    const given = read(claims);
    const met = any ? given !== undefined : [given ?? []].flat().some((value) => texts.includes(value));
    return met ? null : new Refusal('claim', `claim "${name}" is not what it has to be`);
  };
}

/** The value of a header that tells a claim; null: it cannot be told in one, or there is none. */
export function headerOfClaim(name: string): (claims: Claims) => string | null {
  const read = claimReader(name);
  return (claims) => {
    const given = read(claims);
    if (given === undefined) return null;
    const values = [given].flat();
    // A list is joined with commas; an element that has one would look like two.
    if (values.length === 0 || (typeof given !== 'string' && values.some((value) => value.includes(',')))) return null;
    const text = values.join(',');
    return CONTROLS.test(text) ? null : Buffer.from(text).toString('latin1');
  };
}

/** Also spaces around it, which would not arrive. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for.
const CONTROLS = /[\x00-\x1f\x7f]|^ | $/;

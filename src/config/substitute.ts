// Fills `${…}` in the strings of a config, once, while it is read: what comes in is never looked at for further references.
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ItemsRead } from './items-read.ts';

export interface Substitution {
  readonly text: string;
  readonly variables: readonly string[];
  readonly secret: boolean;
  /** Sentences for `Problem.message`. */
  readonly problems: readonly string[];
}

export interface SubstitutionContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folder that `${file:…}` paths start from. */
  readonly dir: string;
  /** Called with the absolute path of every file that is asked for, also when it is missing: a watcher wants to see it appear. */
  readonly sawFile: (path: string) => void;
  /** What files were read as before, by their names in messages; it gets what they are read as now. */
  readonly earlier?: Map<string, ItemsRead>;
}

/** Bytes of one `${file:…}`: a secret, not a document. */
const MAX_SECRET = 64 * 1024;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const SECRET_NAME =
  /(?:^|_)(?:SECRETS?|TOKENS?|PASSWORDS?|PASSWD|PASS|PWD|PASSPHRASE|KEYS?|APIKEY|CREDENTIALS?|PRIVATE|DSN)(?:_|$)/i;

/** True for names such as `JOIN_TOKEN`, whose values are not shown. */
export function looksSecret(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** `${NAME}`, `${NAME:-default}` (used when unset or empty, as in a shell), `${file:path}`, and `$${` for a literal `${`. */
export function substitute(text: string, context: SubstitutionContext): Substitution {
  if (!text.includes('${')) return { text, variables: [], secret: false, problems: [] };
  const out: string[] = [];
  const variables: string[] = [];
  const problems: string[] = [];
  let secret = false;
  let at = 0;
  while (at < text.length) {
    const start = text.indexOf('${', at);
    if (start === -1) break;
    if (start > at && text[start - 1] === '$') {
      out.push(text.slice(at, start - 1), '${');
      at = start + 2;
      continue;
    }
    out.push(text.slice(at, start));
    const end = text.indexOf('}', start);
    if (end === -1) {
      problems.push(`"${text.slice(start)}" has no closing brace; write $\${ for a literal \${`);
      at = text.length;
      break;
    }
    const reference = text.slice(start + 2, end);
    const found = reference.startsWith('file:')
      ? fromFile(reference.slice(5), context)
      : fromEnv(reference, context.env);
    if ('problem' in found) problems.push(found.problem);
    else out.push(found.text);
    if (reference.startsWith('file:')) secret = true;
    else if (NAME.test(nameOf(reference))) {
      variables.push(nameOf(reference));
      secret ||= looksSecret(nameOf(reference));
    }
    at = end + 1;
  }
  out.push(text.slice(at));
  return { text: out.join(''), variables, secret, problems };
}

type Found = { readonly text: string } | { readonly problem: string };

function nameOf(reference: string): string {
  return reference.split(':-', 1)[0];
}

function fromEnv(reference: string, env: SubstitutionContext['env']): Found {
  const name = nameOf(reference);
  if (!NAME.test(name)) {
    return {
      problem: `"\${${reference}}" is not a reference: write \${NAME}, \${NAME:-default} or \${file:path}, or $\${ for a literal \${`,
    };
  }
  const fallback = name === reference ? null : reference.slice(name.length + 2);
  if (fallback?.includes('${')) return { problem: `the default of \${${name}} cannot contain another reference` };
  const value = env[name];
  if (value !== undefined && (value !== '' || fallback === null)) return { text: value };
  if (fallback !== null) return { text: fallback };
  return { problem: `environment variable ${name} is not set; set it, or give a default: \${${name}:-…}` };
}

function fromFile(written: string, { dir, sawFile }: SubstitutionContext): Found {
  const path = resolve(dir, written);
  sawFile(path);
  try {
    const stat = statSync(path);
    if (!stat.isFile()) return { problem: `"${written}" of \${file:…} is not a regular file` };
    if (stat.size > MAX_SECRET)
      return { problem: `"${written}" of \${file:…} is larger than ${MAX_SECRET / 1024} KiB` };
    const text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
    return { text: text.replace(/\r?\n$/, '') };
  } catch (error) {
    return { problem: `"${written}" of \${file:…} cannot be read: ${reasonOf(error)}` };
  }
}

/** Why reading failed, for people: `no such file`. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'no such file';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return 'it is not UTF-8 text';
    default:
      return message;
  }
}

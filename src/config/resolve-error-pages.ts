// Resolves `errorPages` of a gateway: files read, templates checked, each at its place.
import { readFileSync, statSync } from 'node:fs';
import { type ErrorPage, type PageKind, templateProblem } from '../http/error-pages.ts';
import type { CompleteGateway } from './complete.ts';
import type { Cursor } from './cursor.ts';
import { reasonOf } from './substitute.ts';

/** Bytes of one page. It is held in memory, and sent with every error that it is for. */
const MAX_PAGE = 256 * 1024;

const START: Readonly<Record<PageKind, RegExp>> = { html: /^\s*</, json: /^\s*[{[]/ };

export function resolveErrorPages(written: Cursor<CompleteGateway['errorPages']>): ErrorPage[] {
  return (written.given()?.entries() ?? []).map(([statuses, page]) => {
    if (typeof page.value === 'string') return { statuses, ...byExtension(page as Cursor<string>) };
    const kinds = page as Cursor<{ html?: string; json?: string }>;
    return { statuses, html: templateOf(kinds.at('html'), 'html'), json: templateOf(kinds.at('json'), 'json') };
  });
}

function byExtension(page: Cursor<string>): Pick<ErrorPage, PageKind> {
  if (/\.html?$/i.test(page.value)) return { html: templateOf(page, 'html'), json: null };
  if (/\.json$/i.test(page.value)) return { html: null, json: templateOf(page, 'json') };
  page.error(`"${page.value}" says by its name neither .html nor .json: write { html: … } or { json: … }`);
  return { html: null, json: null };
}

/** What begins as HTML or JSON does is the template itself, anything else the name of a file. */
function templateOf(written: Cursor<string | undefined>, kind: PageKind): string | null {
  const given = written.given();
  if (given === null) return null;
  const inline = START[kind].test(given.value);
  if (inline && Buffer.byteLength(given.value) > MAX_PAGE) {
    given.error(`is larger than ${MAX_PAGE / 1024} KiB`);
    return null;
  }
  const template = inline ? given.value : readPage(given);
  const problem = template === null ? null : templateProblem(template, kind);
  if (problem !== null) given.error(inline ? problem : `"${given.value}": ${problem}`);
  return template;
}

function readPage(page: Cursor<string>): string | null {
  const path = page.file();
  try {
    const stat = statSync(path);
    if (!stat.isFile()) page.error(`"${page.value}" is not a regular file`);
    else if (stat.size > MAX_PAGE) page.error(`"${page.value}" is larger than ${MAX_PAGE / 1024} KiB`);
    else return readFileSync(path, 'utf8');
  } catch (error) {
    page.error(`"${page.value}" cannot be read: ${reasonOf(error)}`);
  }
  return null;
}

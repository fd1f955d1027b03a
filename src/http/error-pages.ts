// What a gateway says instead of a problem document, by status and by what the client would rather have.
import { acceptQuality } from './accept.ts';

/** One entry of `errorPages`. */
export interface ErrorPage {
  /** `404`, or a class such as `5xx`. */
  readonly statuses: string;
  /** Templates; null: none of this kind. */
  readonly html: string | null;
  readonly json: string | null;
}

/** What templates may name. */
export interface ErrorPageFacts {
  readonly status: number;
  readonly title: string;
  readonly code: string;
  /** Empty: nothing more to say. */
  readonly detail: string;
  readonly requestId: string;
}

export interface RenderedPage {
  readonly contentType: string;
  readonly body: Buffer;
}

export type PageKind = 'html' | 'json';
type Render = (facts: ErrorPageFacts) => Buffer;

const PLACEHOLDERS = ['status', 'title', 'code', 'detail', 'requestId'] as const;
const PLACEHOLDER = /\{\{([^{}]*)\}\}/g;
const HTML = 'text/html; charset=utf-8';

export class ErrorPages {
  readonly #pages: ReadonlyMap<string, { readonly html: Render | null; readonly json: Render | null }>;

  /** Templates that `templateProblem` has nothing against. */
  constructor(pages: readonly ErrorPage[]) {
    const compiled = (template: string | null, kind: PageKind) => (template === null ? null : compile(template, kind));
    this.#pages = new Map(
      pages.map(({ statuses, html, json }) => [
        statuses,
        { html: compiled(html, 'html'), json: compiled(json, 'json') },
      ]),
    );
  }

  /**
   * Null: the problem document. A page goes to whom it suits better than JSON: what a client has no opinion of stays JSON, because
   * programs seldom say what they want and browsers always do.
   */
  render(facts: ErrorPageFacts, accept: string | undefined): RenderedPage | null {
    const page = this.#pages.get(String(facts.status)) ?? this.#pages.get(`${Math.floor(facts.status / 100)}xx`);
    if (page === undefined) return null;
    const { html, json } = page;
    const problem = acceptQuality(accept, 'application/problem+json');
    const plain = acceptQuality(accept, 'application/json');
    if (html !== null && acceptQuality(accept, 'text/html') > Math.max(problem, plain))
      return { contentType: HTML, body: html(facts) };
    return json === null || plain < problem ? null : { contentType: 'application/json', body: json(facts) };
  }
}

/** Why a template cannot be used; null: it can. */
export function templateProblem(template: string, kind: PageKind): string | null {
  for (const [whole, inner] of template.matchAll(PLACEHOLDER)) {
    if (!(PLACEHOLDERS as readonly string[]).includes(inner.trim()))
      return `${whole} is not known: there are ${PLACEHOLDERS.map((name) => `{{${name}}}`).join(', ')}`;
  }
  if (kind === 'html') return null;
  const sample = { status: 500, title: '"', code: '"', detail: '"', requestId: '"' };
  try {
    JSON.parse(compile(template, 'json')(sample).toString());
    return null;
  } catch (error) {
    return `is no JSON once its placeholders are filled in (${(error as Error).message}): all but {{status}} stand inside quotes`;
  }
}

function compile(template: string, kind: PageKind): Render {
  const parts = template.split(PLACEHOLDER);
  const escaped = kind === 'html' ? escapeHtml : escapeJson;
  return (facts) => {
    let text = '';
    for (const [index, part] of parts.entries())
      text += index % 2 === 0 ? part : escaped(String(facts[part.trim() as keyof ErrorPageFacts]));
    return Buffer.from(text);
  };
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** For text and quoted attributes. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char]);
}

/** For the inside of a JSON string; no markup in it either, should somebody put it into a page. */
function escapeJson(text: string): string {
  return JSON.stringify(text).slice(1, -1).replaceAll('<', '\\u003c');
}

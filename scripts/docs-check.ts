// `npm run docs:check`: what the documentation says is true. Links lead somewhere, configs load, error codes are those of the code.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { isMap, parseDocument, stringify } from 'yaml';
import { loadConfig } from '../src/config/load.ts';
import { formatProblem } from '../src/config/problem.ts';
import { ConfigSchema } from '../src/config/schema.ts';
import { CODES } from '../src/errors.ts';

const root = join(import.meta.dirname, '..');
const pages = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
].sort();

interface Fence {
  readonly language: string;
  /** 1-based, of the line after the opening one. */
  readonly line: number;
  readonly text: string;
}

const faults: string[] = [];
const counted = { links: 0, configs: 0, codes: 0 };

/** Fenced blocks of a page, and the page with every one of them blanked out. */
function split(markdown: string): { readonly fences: readonly Fence[]; readonly prose: string } {
  const fences: Fence[] = [];
  const prose: string[] = [];
  let open: { indent: string; language: string; line: number; lines: string[] } | null = null;
  for (const [index, line] of markdown.split('\n').entries()) {
    const mark = /^(\s*)```(.*)$/.exec(line);
    if (mark === null) {
      if (open === null) prose.push(line);
      else open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line);
    } else if (open === null) {
      open = { indent: mark[1], language: mark[2].trim(), line: index + 2, lines: [] };
    } else {
      fences.push({ language: open.language, line: open.line, text: open.lines.join('\n') });
      open = null;
    }
    if (mark !== null || open !== null) prose.push('');
  }
  return { fences, prose: prose.join('\n') };
}

/** Anchors as GitHub makes them. */
function anchorsOf(page: string): Set<string> {
  const { prose } = split(readFileSync(page, 'utf8'));
  const seen = new Map<string, number>();
  const headings = [...prose.matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, heading]) => {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const slug = plain
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    return times === 0 ? slug : `${slug}-${times}`;
  });
  const explicit = [...prose.matchAll(/<a (?:id|name)="([^"]+)"/g)].map(([, id]) => id);
  return new Set([...headings, ...explicit]);
}

function checkLinks(page: string, prose: string): void {
  const targets = [
    ...prose.replace(/`[^`]*`/g, '').matchAll(/\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g),
    ...prose.matchAll(/^\[[^\]]+\]:\s*(\S+)/gm),
  ].map(([, target]) => target);
  for (const target of targets) {
    if (/^[a-z]+:/i.test(target)) continue;
    counted.links += 1;
    const [path, anchor] = target.split('#', 2);
    const file = path === '' ? join(root, page) : resolve(root, dirname(page), decodeURIComponent(path));
    if (!existsSync(file)) faults.push(`${page}: the link ${target} leads nowhere`);
    else if (anchor && file.endsWith('.md') && !anchorsOf(file).has(anchor)) {
      faults.push(`${page}: ${target}: there is no heading of that name`);
    }
  }
}

/** What a part of a config in the prose may take for granted. */
const SURROUNDINGS = {
  version: 1,
  mesh: { mtls: 'off' },
  gateways: {
    public: {
      listeners: [
        { name: 'http', port: 8080 },
        { name: 'https', port: 8081 },
      ],
    },
  },
  services: {
    web: { endpoints: ['127.0.0.1:3000'] },
    orders: {
      endpoints: [
        { address: '127.0.0.1:3001', labels: { version: 'v1' } },
        { address: '127.0.0.1:3002', labels: { version: 'v2' } },
      ],
      subsets: { v1: { version: 'v1' }, v2: { version: 'v2' } },
    },
    inventory: { endpoints: ['127.0.0.1:3003'] },
  },
} as const;

/** A whole config as it stands; a part of one within its surroundings; null for YAML that is something else. */
function wholeConfig(text: string): string | null {
  const document = parseDocument(text);
  if (document.errors.length > 0 || !isMap(document.contents)) return text;
  const part = document.toJS() as Record<string, unknown>;
  if ('version' in part) return text;
  if (!Object.keys(part).every((key) => key in ConfigSchema.properties)) return null;
  const services = { ...SURROUNDINGS.services, ...(part.services as object | undefined) };
  return stringify({ ...SURROUNDINGS, ...part, services });
}

/** The configs to copy: good as they stand, once what they take from the environment is there. */
async function checkWholeConfigs(folder: string): Promise<void> {
  const env = {
    TLS_CERT: join(folder, 'edge.crt'),
    TLS_KEY: join(folder, 'edge.key'),
    ISSUER: 'https://id.example.com',
    REDIS_URL: 'redis://127.0.0.1:6379',
    PARTNER_KEYS: readFileSync(join(folder, 'keys.txt'), 'utf8'),
  };
  for (const name of readdirSync(join(root, 'config')).filter((file) => file.endsWith('.yaml'))) {
    counted.configs += 1;
    const { problems } = await loadConfig(join(root, 'config', name), { env, cwd: root });
    for (const problem of problems.filter(({ severity }) => severity === 'error')) faults.push(formatProblem(problem));
  }
}

async function checkConfig(page: string, fence: Fence, folder: string, index: number): Promise<void> {
  const text = wholeConfig(fence.text);
  if (text === null) return;
  counted.configs += 1;
  const file = join(folder, `${index}.yaml`);
  writeFileSync(file, text);
  const { problems } = await loadConfig(file, { env: {}, cwd: folder });
  for (const problem of problems.filter(({ severity }) => severity === 'error')) {
    faults.push(`${page}:${fence.line}: ${formatProblem(problem)}`);
  }
}

/** A folder with the files that documented configs name: certificates, and the plugins of docs/examples. */
function furnish(): string {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-docs-'));
  for (const name of ['edge', 'client', 'ca', 'clients-ca', 'tls', 'partner-ca']) {
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)],
    ]);
    if (made.status !== 0) throw new Error(`openssl: ${made.error?.message ?? made.stderr}`);
  }
  const examples = join(root, 'docs/examples');
  if (existsSync(examples)) {
    cpSync(examples, folder, { recursive: true });
    cpSync(examples, join(folder, 'plugins'), { recursive: true });
  }
  return folder;
}

/** A page that the index of its folder does not name is found by nobody. */
function checkIndex(): void {
  for (const folder of ['docs', 'docs/plugins']) {
    const index = `${folder}/README.md`;
    const text = readFileSync(join(root, index), 'utf8');
    for (const page of pages.filter((name) => dirname(name) === folder && name !== index)) {
      if (!text.includes(`](${relative(folder, page)})`)) faults.push(`${index}: does not lead to ${page}`);
    }
  }
}

function checkCodes(): void {
  const page = readFileSync(join(root, 'docs/errors.md'), 'utf8');
  const documented = new Map<string, string>();
  for (const [, code, status, title] of page.matchAll(/^\| `(SLV_[A-Z_]+)` \| (\d+) \| ([^|]+?) \|/gm)) {
    if (documented.has(code)) faults.push(`docs/errors.md: ${code} is documented twice`);
    documented.set(code, `${status} ${title}`);
  }
  for (const [code, { status, title }] of Object.entries(CODES)) {
    counted.codes += 1;
    const stated = documented.get(code);
    if (stated === undefined) faults.push(`docs/errors.md: ${code} is missing`);
    else if (stated !== `${status} ${title}`) {
      faults.push(`docs/errors.md: ${code} is "${status} ${title}", not "${stated}"`);
    }
    documented.delete(code);
  }
  for (const code of documented.keys()) faults.push(`docs/errors.md: ${code} does not exist`);
  for (const name of pages) {
    for (const [code] of readFileSync(join(root, name), 'utf8').matchAll(/\bSLV_[A-Z][A-Z_]*[A-Z]\b/g)) {
      if (!(code in CODES)) faults.push(`${name}: there is no code ${code}`);
    }
  }
}

const folder = furnish();
try {
  let index = 0;
  for (const page of pages) {
    const { fences, prose } = split(readFileSync(join(root, page), 'utf8'));
    checkLinks(page, prose);
    for (const fence of fences) {
      if (/^ya?ml\b/.test(fence.language)) await checkConfig(page, fence, folder, index++);
    }
  }
  await checkWholeConfigs(folder);
  checkIndex();
  checkCodes();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

for (const fault of faults) console.error(fault.replaceAll(`${relative(root, folder)}/`, ''));
const { links, configs, codes } = counted;
console.log(`${pages.length} pages, ${links} links, ${configs} configs, ${codes} error codes: ${faults.length} faults`);
// A check that saw nothing proves nothing.
process.exitCode = faults.length > 0 || links === 0 || configs === 0 || codes === 0 ? 1 : 0;

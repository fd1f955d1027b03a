// Makes what is published: dist/ with JavaScript and declarations.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Ajv } from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { VALIDATOR_OPTIONS } from '../src/config/config-validator.ts';
import { ConfigSchema } from '../src/config/schema.ts';

const root = join(import.meta.dirname, '..');
const target = join(root, 'dist');
// Built beside the target and then renamed: whoever imports dist/ meanwhile sees the old build or the new one, never half of one.
const staging = join(root, `node_modules/.cache/selvedge-build.${process.pid}`);

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

try {
  process.exitCode = build() ? 0 : 1;
} finally {
  rmSync(staging, { recursive: true, force: true });
}

function build(): boolean {
  const options = { cwd: root, stdio: 'inherit' } as const;
  const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', staging], options);
  if (status !== 0) return false;
  for (const file of filesUnder(staging)) {
    if (file.endsWith('.d.ts')) writeFileSync(file, rewriteDeclaration(readFileSync(file, 'utf8')));
  }
  copyData(join(root, 'src'), staging);
  compileConfigValidator();
  rmSync(target, { recursive: true, force: true });
  renameSync(staging, target);
  return true;
}

/** Compiling the config's schema is a tenth of a start; the published package has it done. Same validator, same options. */
function compileConfigValidator(): void {
  const options = { ...VALIDATOR_OPTIONS, code: { ...VALIDATOR_OPTIONS.code, source: true, esm: true } };
  const ajv = new Ajv(options);
  const code = standaloneCode.default(ajv, ajv.compile(ConfigSchema));
  const file = join(staging, 'config/config-validator.js');
  const prelude = "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);\n";
  writeFileSync(file, `${prelude}${code}\nexport const configValidator = () => validate;\n`);
}

/** The compiler rewrites `./x.ts` to `./x.js` in JavaScript only; a declaration that still says `.ts` resolves nowhere once published. */
function rewriteDeclaration(text: string): string {
  const relative = text.replace(/((?:from|import)\s*\(?\s*['"]\.{1,2}\/[^'"]*)\.ts(['"])/g, '$1.js$2');
  // TypeScript 6 and later load no ambient types unasked, so the declarations ask for Node's themselves.
  return `/// <reference types="node" />\n${relative}`;
}

/** Whatever lies beside the sources and is read at run time (pages, templates) keeps its place. */
function copyData(from: string, to: string): void {
  for (const file of filesUnder(from)) {
    if (!file.endsWith('.ts')) cpSync(file, join(to, file.slice(from.length)));
  }
}

function filesUnder(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

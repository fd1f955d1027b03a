// What few processes need, or only for a moment: files of its own in dist/late/, read when they are first asked for and let go again.
import { join } from 'node:path';
import { Ajv } from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { build, type Plugin } from 'esbuild';
import type { TSchema } from 'typebox';
import { VALIDATOR_OPTIONS } from '../src/config/config-validator.ts';
import { ConfigSchema } from '../src/config/schema.ts';
import { DESCRIPTION, type PluginDescription } from '../src/plugin.ts';
import { builtins } from '../src/plugins/index.ts';
import { closed, OPTION_SETTINGS } from '../src/proxy/plugin-options.ts';

/** The one question for the own place that has an answer in dist/ and in dist/chunks/ alike. */
export const OWN_PLACE = 'const here = import.meta.url;';

/** Milliseconds that a file is kept when it is needed at a load only: the next check of the same load finds it. */
const KEPT_MS = 2_000;

const LATE = `const { createRequire } = process.getBuiltinModule('node:module');
const kept = new Map();
/** @param lasts what was made with it goes on needing it */
export function late(name, lasts) {
  let found = kept.get(name);
  if (found === undefined) {
    ${OWN_PLACE}
    // Neither this function nor its cache may hold what is let go.
    const require = createRequire(here);
    const file = require.resolve((/\\/chunks\\/[^/]*$/.test(here) ? '../late/' : './late/') + name + '.cjs');
    found = require(file);
    delete require.cache[file];
    kept.set(name, found);
    if (!lasts) setTimeout(() => kept.delete(name), ${KEPT_MS}).unref();
  }
  return found;
}
`;

interface Stand {
  /** Who imports the package. */
  readonly importer: RegExp;
  /** What it gets instead: the part of the package that it uses. */
  readonly contents: string;
}

function schemaCompiler(kind: 'validators' | 'serializers'): string {
  return `const { late } = require('selvedge:late');
module.exports = () => { let made; return (...given) => (made ??= late('schemas', true).${kind}())(...given); };`;
}

/** In place of packages. */
const STANDS: Readonly<Record<string, Stand>> = {
  re2js: {
    importer: /\/src\//,
    contents: `import { late } from 'selvedge:late';
export const RE2JS = { compile: (...given) => late('re2js', true).RE2JS.compile(...given) };`,
  },
  ajv: {
    importer: /\/src\/proxy\/plugin-options\.ts$/,
    contents: `import { late } from 'selvedge:late';
export function Ajv(options) { return new (late('ajv', true).Ajv)(options); }`,
  },
  // Fastify makes these for each instance, and uses them where a route has a schema. No route of ours has one.
  '@fastify/ajv-compiler': {
    importer: /\/fastify\/lib\//,
    contents: schemaCompiler('validators'),
  },
  '@fastify/fast-json-stringify-compiler': {
    importer: /\/fastify\/lib\//,
    contents: schemaCompiler('serializers'),
  },
};

/** In place of modules of src/. */
export const LATE_MODULES: Readonly<Record<string, string>> = {
  'src/config/config-validator.ts': `import { late } from 'selvedge:late';
export const configValidator = () => late('config-validator', false);`,
  'src/proxy/option-validators.ts': `import { late } from 'selvedge:late';
export const optionValidator = (name) => late('option-validators', false)[name];`,
};

/** Serves `selvedge:late` and what stands for the packages. */
export const lateModules: Plugin = {
  name: 'late',
  setup(build) {
    build.onResolve({ filter: /^selvedge:late$/ }, ({ path }) => ({ path, namespace: 'late' }));
    build.onLoad({ filter: /^selvedge:late$/, namespace: 'late' }, () => ({ contents: LATE }));
    build.onResolve({ filter: /^(?:re2js|ajv|@fastify\/[a-z-]+-compiler)$/ }, ({ path, importer }) =>
      STANDS[path]?.importer.test(importer) ? { path, namespace: 'stand' } : null,
    );
    build.onLoad({ filter: /./, namespace: 'stand' }, ({ path }) => ({ contents: STANDS[path].contents }));
  },
};

/** Writes dist/late/. Resolves with the files that went in, as paths from `root`. */
export async function writeLate(root: string, outdir: string): Promise<string[]> {
  const contents: Readonly<Record<string, string>> = {
    re2js: `export { RE2JS } from 're2js';`,
    ajv: `export { Ajv } from 'ajv';`,
    schemas: `export const validators = require('@fastify/ajv-compiler'), serializers = require('@fastify/fast-json-stringify-compiler');`,
    'config-validator': configValidator(),
    'option-validators': await optionValidators(),
  };
  const inputs: string[] = [];
  for (const [name, text] of Object.entries(contents)) {
    const { metafile } = await build({
      absWorkingDir: root,
      stdin: { contents: text, resolveDir: root },
      outfile: join(outdir, 'late', `${name}.cjs`),
      bundle: true,
      format: 'cjs',
      platform: 'node',
      target: 'node20.19',
      // Nobody reads it in a stack trace, and some of it is the largest text of all.
      minify: true,
      legalComments: 'none',
      logLevel: 'warning',
      metafile: true,
    });
    inputs.push(...Object.keys(metafile.inputs).filter((file) => file !== '<stdin>'));
  }
  return inputs;
}

/** Compiling the config's schema takes longer than reading a config of fifty routes. Same validator, same options. */
function configValidator(): string {
  const ajv = new Ajv({ ...VALIDATOR_OPTIONS, code: { source: true, optimize: true } });
  return standaloneCode.default(ajv, ajv.compile(ConfigSchema));
}

/** Of the built-in plugins that have options, by name. */
async function optionValidators(): Promise<string> {
  const ajv = new Ajv({ ...OPTION_SETTINGS, code: { source: true, optimize: true } });
  const names: Record<string, string> = {};
  for (const [name, load] of builtins) {
    const { default: plugin } = await load();
    const { options } = (plugin as { readonly [DESCRIPTION]?: PluginDescription<TSchema> })[DESCRIPTION] ?? {};
    if (options === undefined) continue;
    ajv.addSchema(closed(JSON.parse(JSON.stringify(options))) as object, name);
    names[name] = name;
  }
  return standaloneCode.default(ajv, names);
}

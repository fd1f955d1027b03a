// The JavaScript of dist/: four entries and the chunks that they share, with the packages they use in them.
import { readFileSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { LATE_MODULES, lateModules, OWN_PLACE, writeLate } from './late.ts';

/** `OWN_PLACE` as it is printed. */
const PRINTED_OWN_PLACE = /\bhere\s*=\s*import\s*\.\s*meta\s*\.\s*url\b/g;
/** Not imported but run, as a thread. */
const LOADER = 'src/runtime/loader-thread.ts';

/**
 * Rejects when anything cannot be bundled. Resolves with the files that went in, as paths from `root`.
 *
 * One graph with shared chunks, so that index, plugin and main have every error class and symbol once. The packages are part
 * of it: finding and reading a thousand files of theirs takes longer than everything else that a start does.
 */
export async function bundle(root: string, outdir: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['src/index.ts', 'src/plugin.ts', 'src/main.ts', LOADER],
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    chunkNames: 'chunks/[name]-[hash]',
    // The engine keeps the text of what it runs: without comments and indentation it is a third less. Names stay, for stack traces.
    minifyWhitespace: true,
    lineLimit: 160,
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
    plugins: [lateModules, builtins, without(UNUSED), replaced(root)],
  });
  for (const file of Object.keys(metafile.outputs)) {
    keepNarrow(join(root, file));
    // A module that asks where it lies gets another answer in here.
    if (readFileSync(join(root, file), 'utf8').replaceAll(PRINTED_OWN_PLACE, '').includes('import.meta'))
      throw new Error(`${file} asks for import.meta`);
  }
  return [...new Set([...Object.keys(metafile.inputs), ...(await writeLate(root, outdir))])];
}

/**
 * The engine keeps the text of what it runs, with two bytes for each character where a single one is beyond Latin-1. Code is
 * escaped already, so what is left stands in comments.
 */
function keepNarrow(file: string): void {
  const text = readFileSync(file, 'latin1');
  const narrow = text.replace(/[\x80-\xff]+/g, '?');
  if (narrow !== text) writeFileSync(file, narrow, 'latin1');
}

/**
 * Node's own modules by `process.getBuiltinModule`: an import of `node:http` reads each of its exports, and one of them
 * loads the whole of fetch.
 */
const builtins: Plugin = {
  name: 'builtins',
  setup(build) {
    build.onResolve({ filter: /^[a-z_:/0-9]+$/ }, ({ path }) =>
      isBuiltin(path) ? { path: path.replace(/^node:/, ''), namespace: 'builtin' } : null,
    );
    build.onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule('node:${path}');`,
    }));
  },
};

const THROWS = `class Unused { constructor() { throw new Error('not part of this build'); } }\n`;

/**
 * Packages that others load for what nobody asks of them: requests leave by our own transport, upgrades too, and no counter has
 * exemplars.
 */
const UNUSED: Readonly<Record<string, string>> = {
  '@opentelemetry/api': 'module.exports = {};',
  undici: `${THROWS}module.exports = { Agent: Unused, BalancedPool: Unused, Client: Unused, Dispatcher: Unused, Pool: Unused, ProxyAgent: Unused };`,
  ws: `${THROWS}module.exports = Unused;`,
};

function without(packages: Readonly<Record<string, string>>): Plugin {
  return {
    name: 'without',
    setup(build) {
      build.onResolve({ filter: /^(?:undici|ws|@opentelemetry\/api)$/ }, ({ path, importer }) =>
        /\/(?:@fastify\/(?:http-proxy|reply-from)|prom-client)\//.test(importer) ? { path, namespace: 'unused' } : null,
      );
      build.onLoad({ filter: /./, namespace: 'unused' }, ({ path }) => ({ contents: packages[path] }));
    },
  };
}

/** Modules whose work is done here rather than at every start. */
function replaced(root: string): Plugin {
  const modules: Readonly<Record<string, () => string>> = {
    'src/runtime/version.ts': () => versionOf(root),
    'src/runtime/loader-url.ts': loaderUrl,
    ...Object.fromEntries(Object.entries(LATE_MODULES).map(([path, contents]) => [path, () => contents])),
  };
  return {
    name: 'replaced',
    setup(build) {
      build.onLoad(
        {
          filter:
            /\/src\/(?:config\/config-validator|proxy\/option-validators|runtime\/version|runtime\/loader-url)\.ts$/,
        },
        ({ path }) => {
          const make = modules[path.slice(root.length + 1)];
          return make === undefined ? null : { contents: make(), resolveDir: root };
        },
      );
    },
  };
}

function versionOf(root: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string };
  return `export const version = () => ${JSON.stringify(version)};\n`;
}

function loaderUrl(): string {
  return `export function loaderUrl() {
  ${OWN_PLACE}
  return new URL(/\\/chunks\\/[^/]*$/.test(here) ? '../runtime/loader-thread.js' : './runtime/loader-thread.js', here);
}
`;
}

// Finds and imports the module of one plugin: before any chain is built, once per config.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, extname, isAbsolute, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

/** Milliseconds that a module may take to load: a top-level await that never settles must not hang a reload. */
const IMPORT_TIMEOUT_MS = 10_000;

export interface PluginModule {
  /** The default export; of a transpiled CommonJS module the one inside it. */
  readonly exported: unknown;
  /** Changes when the module file does. */
  readonly identity: string;
  readonly fileUrl: string;
}

/** Why a module cannot be used, as a sentence for the operator. */
export class PluginModuleError extends Error {
  override readonly name = 'PluginModuleError';
}

/**
 * A file (absolute path) is imported anew when its content has changed; the modules that it imports itself are not.
 * A package comes from the node_modules above `baseDir` and stays as first imported: a new version needs a restart.
 * Rejects with PluginModuleError alone.
 */
export async function importPlugin(name: string, baseDir: string): Promise<PluginModule> {
  if (!isAbsolute(name)) {
    const fileUrl = pathToFileURL(await resolvePackage(name, baseDir)).href;
    return { exported: await importDefault(fileUrl, fileUrl), identity: fileUrl, fileUrl };
  }
  const fileUrl = pathToFileURL(name).href;
  const hash = createHash('sha256')
    .update(await readModule(name))
    .digest('hex')
    .slice(0, 16);
  const identity = `${fileUrl}?content=${hash}`;
  return { exported: await importDefault(identity, fileUrl), identity, fileUrl };
}

async function readModule(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new PluginModuleError(`there is no file ${path}`);
    if (code === 'EISDIR') throw new PluginModuleError(`${path} is a folder: name the module file in it`);
    throw new PluginModuleError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

async function importDefault(url: string, fileUrl: string): Promise<unknown> {
  const module = await importInTime(url, fileUrl);
  const exported = module.default;
  if (
    typeof exported === 'object' &&
    exported !== null &&
    typeof (exported as { default?: unknown }).default === 'function'
  ) {
    return (exported as { default: unknown }).default;
  }
  return exported;
}

async function importInTime(url: string, fileUrl: string): Promise<{ readonly default?: unknown }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new PluginModuleError(`its module did not load within ${IMPORT_TIMEOUT_MS / 1_000} s (a top-level await?)`),
      );
    }, IMPORT_TIMEOUT_MS);
  });
  try {
    return await Promise.race([import(url) as Promise<{ readonly default?: unknown }>, late]);
  } catch (error) {
    throw error instanceof PluginModuleError
      ? error
      : new PluginModuleError(await importFailure(error, fileUrl), { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function importFailure(error: unknown, fileUrl: string): Promise<string> {
  const { code, message } =
    error instanceof Error ? (error as NodeJS.ErrnoException) : { code: undefined, message: String(error) };
  const extension = extname(fileURLToPath(fileUrl));
  if (code === 'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING') {
    return 'Node does not load TypeScript from node_modules: the package has to publish JavaScript';
  }
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && /^\.[cm]?ts$/.test(extension)) {
    return `Node ${process.versions.node} cannot load TypeScript: use Node 22.18 or later, or name the compiled .js file`;
  }
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION')
    return `a plugin is a .js, .mjs, .cjs or .ts module, not ${extension || 'a file without extension'}`;
  const [firstLine] = message.split('\n', 1);
  return `its module cannot be imported: ${firstLine}${await positionOf(error, fileUrl)}`;
}

/** ` (tenant.ts:12:7)`, or nothing when the fault lies in another file. */
async function positionOf(error: unknown, fileUrl: string): Promise<string> {
  if (!(error instanceof Error)) return '';
  const path = fileURLToPath(fileUrl);
  // V8 keeps the position of a syntax error in an ES module to itself; `node --check` prints it.
  const text = `${error.stack}\n${error.name === 'SyntaxError' ? await syntaxCheck(path) : ''}`;
  for (const line of text.split('\n')) {
    for (const written of [fileUrl, path]) {
      const at = line.indexOf(written);
      const position = at < 0 ? null : /^(?:\?[^:]*)?:(\d+(?::\d+)?)/.exec(line.slice(at + written.length));
      if (position !== null) return ` (${basename(path)}:${position[1]})`;
    }
  }
  return '';
}

async function syntaxCheck(path: string): Promise<string> {
  try {
    await promisify(execFile)(process.execPath, ['--check', path], { timeout: 5_000 });
    return '';
  } catch (error) {
    return String((error as { stderr?: unknown }).stderr ?? '');
  }
}

async function resolvePackage(name: string, baseDir: string): Promise<string> {
  try {
    return createRequire(join(baseDir, 'package.json')).resolve(name);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const path = await resolveImportOnly(name, baseDir);
    if (path !== null) return path;
    if (code !== 'MODULE_NOT_FOUND')
      throw new PluginModuleError(`package "${name}" cannot be resolved: ${message.split('\n', 1)[0]}`);
    throw new PluginModuleError(`it is neither a built-in plugin nor a package installed above ${baseDir}`);
  }
}

/** Packages whose exports have no CommonJS entry: `require.resolve` refuses them and `import.meta.resolve` takes no folder. */
async function resolveImportOnly(name: string, baseDir: string): Promise<string | null> {
  const [, packageName, subpath] = /^((?:@[^/]+\/)?[^/]+)(?:\/(.+))?$/.exec(name) ?? [];
  if (packageName === undefined) return null;
  for (let folder = baseDir; ; folder = dirname(folder)) {
    const root = join(folder, 'node_modules', packageName);
    const manifest = await readFile(join(root, 'package.json'), 'utf8').catch(() => null);
    if (manifest !== null) {
      const target = exportTarget(JSON.parse(manifest).exports, subpath === undefined ? '.' : `./${subpath}`);
      return target === null ? null : join(root, target);
    }
    if (dirname(folder) === folder) return null;
  }
}

/** Node's package exports, conditions of an import: https://nodejs.org/api/packages.html#conditional-exports */
function exportTarget(exports: unknown, entry: string): string | null {
  if (typeof exports === 'string') return entry === '.' ? exports : null;
  if (Array.isArray(exports) || typeof exports !== 'object' || exports === null) return null;
  const record = exports as Record<string, unknown>;
  const byPath = Object.keys(record).some((key) => key.startsWith('.'));
  if (!byPath) return entry === '.' ? conditionTarget(record) : null;
  return Object.hasOwn(record, entry) ? conditionTarget(record[entry]) : null;
}

function conditionTarget(target: unknown): string | null {
  if (typeof target === 'string') return target;
  if (typeof target !== 'object' || target === null) return null;
  for (const [condition, inner] of Object.entries(target)) {
    if (condition !== 'node' && condition !== 'import' && condition !== 'module-sync' && condition !== 'default')
      continue;
    const found = conditionTarget(inner);
    if (found !== null) return found;
  }
  return null;
}

// Turns the plugin names and options of a config into functions that a chain can register: while a config is checked or compiled.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { TSchema } from 'typebox';
import type { Config, PluginOff, PluginUse, RouteConfig, ServiceConfig } from '../config/model.ts';
import { hasErrors, type Problem } from '../config/problem.ts';
import type { OptionSchemas, SchemaNode } from '../config/secrets.ts';
import { didYouMean } from '../config/suggest.ts';
import { type Builtins, DESCRIPTION, type PluginDescription, type Reference, type SelvedgePlugin } from '../plugin.ts';
import { Slices } from '../slices.ts';
import { importPlugin, PluginModuleError } from './plugin-module.ts';
import { checkOptions, copy } from './plugin-options.ts';

export interface LoadedPlugin {
  /** For messages, metrics and the admin API: the plugin's own name, else as the config wrote it. */
  readonly name: string;
  readonly plugin: SelvedgePlugin<never>;
  /** Checked, with defaults; as written for plugins without a schema. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Equal while the code is: built-in name, or module URL with a hash of the file's content. */
  readonly identity: string;
  /** Lower-case request headers that only this plugin may set. */
  readonly identityHeaders: readonly string[];
  readonly references: readonly Reference[];
  /** In the list of a gateway: requests without a route pass it too. */
  readonly unrouted: boolean;
}

export interface LoadResult {
  /** Has every use that loaded without an error. */
  readonly loaded: ReadonlyMap<PluginUse, LoadedPlugin>;
  readonly problems: readonly Problem[];
}

interface FoundPlugin {
  readonly exported: unknown;
  readonly identity: string;
  /** Its name in the list of built-in plugins. */
  readonly builtin?: string;
}

/** Fastify's own mark for plugins that share the scope of whoever registers them; fastify-plugin sets it. */
const SKIP_OVERRIDE = Symbol.for('skip-override');
const DISPLAY_NAME = Symbol.for('fastify.display-name');

/** Loads every use, each module once, and reports everything that is wrong. Never rejects for what a user wrote. */
export async function loadPlugins(
  uses: readonly PluginUse[],
  builtins: Builtins,
  slices = new Slices(),
): Promise<LoadResult> {
  const found = new Map<string, Promise<FoundPlugin | PluginModuleError>>();
  const loaded = new Map<PluginUse, LoadedPlugin>();
  const problems: Problem[] = [];
  for (const use of uses) {
    const key = `${use.name}\0${use.baseDir}`;
    let finding = found.get(key);
    if (finding === undefined) {
      finding = find(use, builtins);
      found.set(key, finding);
    }
    const plugin = await finding;
    const { ready, problems: wrong } =
      plugin instanceof PluginModuleError ? refused([problemAt(use, '', plugin.message)]) : prepare(use, plugin);
    problems.push(...wrong);
    if (ready !== null) loaded.set(use, ready);
    if (slices.over) await slices.rest();
  }
  return { loaded, problems };
}

async function find(use: PluginUse, builtins: Builtins): Promise<FoundPlugin | PluginModuleError> {
  const builtin = builtins.get(use.name);
  if (builtin !== undefined) return { exported: (await builtin()).default, identity: use.name, builtin: use.name };
  try {
    return await importPlugin(use.name, use.baseDir);
  } catch (error) {
    if (!(error instanceof PluginModuleError)) throw error;
    const hint = didYouMean(use.name, builtins.keys());
    return new PluginModuleError(`plugin "${use.written}" cannot be loaded: ${error.message}${hint}`);
  }
}

/** `ready` null: with an error. */
interface Prepared {
  readonly ready: LoadedPlugin | null;
  readonly problems: readonly Problem[];
}

function refused(problems: readonly Problem[]): Prepared {
  return { ready: null, problems };
}

function prepare(use: PluginUse, { exported, identity, builtin }: FoundPlugin): Prepared {
  const wrong = shapeProblem(use, exported);
  if (wrong !== null) return refused([problemAt(use, '', wrong)]);
  const plugin = exported as SelvedgePlugin<never> & { readonly [DISPLAY_NAME]?: string };
  const description: PluginDescription<TSchema> | undefined = plugin[DESCRIPTION];
  const name = description?.name ?? plugin[DISPLAY_NAME] ?? use.written;
  const base = { name, plugin, identity: identity + contentOf(use.files ?? []) };
  if (description?.options === undefined) {
    if (description !== undefined && Object.keys(use.options).length > 0)
      return refused([problemAt(use, '', `plugin "${use.written}" takes no options`)]);
    const options = copy(use.options) as Record<string, unknown>;
    return { ready: { ...base, ...described(description, {}), options }, problems: [] };
  }
  try {
    const { options, problems } = checkOptions(description.options, use.options, builtin);
    const all = problems.length > 0 ? problems : (description.check?.(options) ?? []);
    const found = all.map(({ path, message, severity }) => problemAt(use, path, message, severity));
    if (hasErrors(found)) return refused(found);
    return { ready: { ...base, options, ...described(description, options) }, problems: found };
  } catch (error) {
    const message = `plugin "${use.written}" failed to check its options: ${(error as Error).message}`;
    return refused([problemAt(use, '', message)]);
  }
}

/** A file that cannot be read is its plugin's to report. */
function contentOf(files: readonly string[]): string {
  return files
    .map((file) => {
      try {
        return `#${createHash('sha256').update(readFileSync(file)).digest('base64url')}`;
      } catch {
        return '#';
      }
    })
    .join('');
}

function described(description: PluginDescription<TSchema> | undefined, options: unknown) {
  return {
    identityHeaders: (description?.identityHeaders?.(options) ?? []).map((header) => header.toLowerCase()),
    references: description?.references?.(options) ?? [],
    unrouted: description?.unrouted ?? false,
  };
}

function shapeProblem(use: PluginUse, exported: unknown): string | null {
  const plugin = `plugin "${use.written}"`;
  if (exported === undefined)
    return `${plugin} has no default export: write "export default definePlugin({ name }, async (app, options) => { … })"`;
  if (typeof exported !== 'function')
    return `${plugin} must export a function by default, not ${exported === null ? 'null' : `a value of type ${typeof exported}`}`;
  if ((exported as { [SKIP_OVERRIDE]?: unknown })[SKIP_OVERRIDE] !== true) {
    return `${plugin} would be inert: Fastify gives a bare function a scope of its own, where its hooks never see a request; wrap it in definePlugin of "selvedge/plugin" or in fastify-plugin`;
  }
  return null;
}

function problemAt(use: PluginUse, path: string, message: string, severity: Problem['severity'] = 'error'): Problem {
  const separator = path === '' || path.startsWith('[') ? '' : '.';
  return { severity, place: use.at, path: `${use.written}${separator}${path}`, message };
}

/**
 * The schemas of the options of every plugin that the config names, so that what they call secret is not shown. Runs the modules of
 * plugins; one that cannot be loaded is left out.
 */
export async function optionSchemas(config: Config, builtins: Builtins): Promise<OptionSchemas> {
  const uses = new Map(scopesOf(config).flatMap(({ uses }) => uses.map((use) => [use.written, use] as const)));
  const schemas = new Map<string, SchemaNode>();
  for (const [written, use] of uses) {
    const found = await find(use, builtins).catch(() => null);
    if (found === null || found instanceof PluginModuleError || typeof found.exported !== 'function') continue;
    const schema = (found.exported as unknown as Partial<SelvedgePlugin<never>>)[DESCRIPTION]?.options;
    if (schema !== undefined) schemas.set(written, schema as SchemaNode);
  }
  return (written) => schemas.get(written);
}

/** Everything wrong with the plugins of gateways, routes and services: modules, options, and the services that options name. */
export async function checkPlugins(config: Config, builtins: Builtins): Promise<Problem[]> {
  const uses = new Set(scopesOf(config).flatMap((scope) => scope.uses));
  const { loaded, problems } = await loadPlugins([...uses], builtins);
  return [...problems, ...referenceProblems(config, loaded)];
}

/** Services and subsets that the options of loaded plugins name and the config does not have. */
export function referenceProblems(config: Config, loaded: ReadonlyMap<PluginUse, LoadedPlugin>): Problem[] {
  const services = new Map(config.services.map((service) => [service.name, service]));
  const problems: Problem[] = [];
  for (const { uses, own } of scopesOf(config)) {
    for (const use of uses) {
      for (const reference of loaded.get(use)?.references ?? []) {
        const message = referenceProblem(reference, own, services);
        if (message !== null) problems.push(problemAt(use, reference.path, message));
      }
    }
  }
  return problems;
}

/** Plugins as the config lists them. `own`: the services that a request there goes to by itself; empty when any. */
function scopesOf(config: Config): { readonly uses: readonly PluginUse[]; readonly own: readonly string[] }[] {
  return [
    ...config.gateways.flatMap(({ plugins, listeners }) =>
      [plugins, ...listeners.map((listener) => listener.plugins)].map((list) => ({ uses: usesIn(list), own: [] })),
    ),
    ...config.services.map((service) => ({ uses: service.plugins, own: [service.name] })),
    // Of thousands of routes most have no plugins of their own.
    ...config.routes
      .filter(({ plugins }) => plugins.length > 0)
      .map((route) => ({ uses: usesIn(route.plugins), own: backendsOf(route) })),
  ];
}

function usesIn(plugins: readonly (PluginUse | PluginOff)[]): PluginUse[] {
  return plugins.filter((plugin) => 'name' in plugin);
}

function backendsOf({ action }: RouteConfig): readonly string[] {
  return action.kind === 'forward' ? [...new Set(action.backends.map(({ service }) => service))] : [];
}

function referenceProblem(
  { service, subset }: Reference,
  own: readonly string[],
  services: ReadonlyMap<string, ServiceConfig>,
): string | null {
  if (service !== null && !services.has(service))
    return `no service "${service}"${didYouMean(service, services.keys())}`;
  if (service !== null && services.get(service)?.protocol === 'tcp')
    return `service "${service}" speaks TCP and takes no requests`;
  if (subset === null) return null;
  const targets = (service === null ? own : [service]).flatMap((name) => services.get(name) ?? []);
  for (const target of targets) {
    const subsets = Object.keys(target.subsets);
    if (!subsets.includes(subset))
      return `service "${target.name}" has no subset "${subset}"${didYouMean(subset, subsets)}`;
  }
  const anywhere = targets.length > 0 || [...services.values()].some(({ subsets }) => Object.hasOwn(subsets, subset));
  return anywhere ? null : `no service has a subset "${subset}"`;
}

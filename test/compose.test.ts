// docker-compose.yml, the Dockerfile, the config they mount and the command line agree, although only Docker would run them together.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import t from 'tap';
import { parse } from 'yaml';
import { command as runCommand } from '../src/cli/run.ts';
import { loadConfig } from '../src/config/load.ts';

const root = join(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

interface ComposeService {
  readonly build: { readonly context: string; readonly target: string };
  readonly command: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

const compose = parse(read('docker-compose.yml'), { merge: true }) as {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly networks: Readonly<Record<string, unknown>>;
};
const containers = Object.entries(compose.services);
const selvedges = containers.filter(([, { build }]) => build.target === 'runtime');
const apps = containers.filter(([, { build }]) => build.target === 'demo');

const dockerfile = read('Dockerfile').replace(/\\\n/g, ' ');
/** Stages by name, each with its instructions. */
const stages = new Map(
  dockerfile
    .split(/^FROM /m)
    .slice(1)
    .map((text) => {
      const [from, ...lines] = text.split('\n');
      const [, base, name] = /^(\S+) AS (\S+)$/.exec(from) ?? [];
      return [name, { base, lines: lines.filter((line) => /^[A-Z]+ /.test(line)) }] as const;
    }),
);
const instruction = (stage: string, word: string): string[] =>
  (stages.get(stage)?.lines ?? [])
    .filter((line) => line.startsWith(`${word} `))
    .map((line) => line.slice(word.length + 1));

/** The folder of this checkout that a container sees at a path. */
function mounted(service: ComposeService, path: string): string | null {
  const volume = (service.volumes ?? []).map((text) => text.split(':')).find(([, target]) => target === path);
  return volume === undefined ? null : join(root, volume[0]);
}

function parsed(args: readonly string[]) {
  return parseArgs({ args: [...args], options: runCommand.options, strict: true, allowPositionals: true });
}

async function configOf(service: ComposeService) {
  const { values } = parsed(service.command.slice(1));
  const folder = mounted(service, String(values.config));
  if (folder === null) throw new Error(`${String(values.config)} is not mounted`);
  const { config, problems } = await loadConfig(folder, { env: {}, cwd: root });
  return { config: config!, problems };
}

t.test('the parts of the shop are all there', async (t) => {
  t.strictSame(selvedges.map(([name]) => name).sort(), ['edge', 'inventory-hop', 'orders-hop', 'web-hop']);
  t.strictSame(apps.map(([name]) => name).sort(), ['inventory', 'orders-v1', 'orders-v2', 'web']);
});

t.test('every command is one that the command line understands, for roles that the config has', async (t) => {
  for (const [name, service] of selvedges) {
    t.equal(service.command[0], runCommand.name, name);
    const { values, positionals } = parsed(service.command.slice(1));
    t.strictSame(positionals, [], name);
    const { config, problems } = await configOf(service);
    t.strictSame(problems, [], `${name}: the mounted config has no problem`);
    for (const gateway of (values.gateway ?? []) as string[]) {
      t.ok(
        config.gateways.some((known) => known.name === gateway),
        `${name}: gateway ${gateway}`,
      );
    }
    for (const hop of (values.internal ?? []) as string[]) {
      t.ok(
        config.services.some((known) => known.name === hop && known.internal !== null),
        `${name}: hop of ${hop}`,
      );
    }
  }
});

t.test('every role of the config is run by exactly one container', async (t) => {
  const roles = selvedges.flatMap(([, { command }]) => {
    const { values } = parsed(command.slice(1));
    return [
      ...((values.gateway ?? []) as string[]).map((name) => `gateway ${name}`),
      ...((values.internal ?? []) as string[]).map((name) => `hop ${name}`),
    ];
  });
  const { config } = await configOf(compose.services.edge);
  const configured = [
    ...config.gateways.map(({ name }) => `gateway ${name}`),
    ...config.services.filter(({ internal }) => internal !== null).map(({ name }) => `hop ${name}`),
  ];
  t.strictSame(roles.sort(), configured.sort());
});

t.test('addresses in the config are containers that listen on that port', async (t) => {
  const { config } = await configOf(compose.services.edge);
  const appPort = /\bPORT=(\d+)/.exec(instruction('demo', 'ENV').join(' '))?.[1];
  for (const service of config.services) {
    t.ok(service.endpoints.length > 0);
    for (const { address, hop } of service.endpoints) {
      const [host, port] = address.split(':');
      const app = compose.services[host];
      t.equal(app?.build.target, 'demo', `${address} is a sample service`);
      t.equal(port, app.environment?.PORT ?? appPort, address);
      const [hopHost, hopPort] = String(hop).split(':');
      const { values } = parsed(compose.services[hopHost].command.slice(1));
      t.strictSame(values.internal, [service.name], `${hop} runs the hop of ${service.name}`);
      t.equal(Number(hopPort), service.internal?.inbound.port, hop!);
      t.not(service.internal?.inbound.host, '127.0.0.1', 'the hop is reachable from other containers');
    }
  }
});

t.test('the orders service finds the outbound side of its hop', async (t) => {
  const { config } = await configOf(compose.services.edge);
  const outbound = config.services.find(({ name }) => name === 'orders')?.internal?.outbound;
  for (const [name, { command, environment }] of apps) {
    if (command[0] !== 'orders') continue;
    t.equal(environment?.OUTBOUND, `http://orders-hop:${outbound?.port}`, name);
    t.not(outbound?.host, '127.0.0.1', 'from another container');
  }
});

t.test('the ports that are published are listened on, and the admin API is not among them', async (t) => {
  const { config } = await configOf(compose.services.edge);
  const listening = config.gateways.flatMap(({ listeners }) => listeners);
  const published = containers.flatMap(([name, { ports }]) => (ports ?? []).map((mapping) => [name, mapping] as const));
  t.ok(published.length > 0);
  for (const [name, mapping] of published) {
    t.equal(name, 'edge');
    const port = Number(mapping.split(':').at(-1));
    t.match(
      listening.find((listener) => listener.port === port),
      { host: '0.0.0.0' },
      mapping,
    );
  }
  t.equal(config.admin?.host, '127.0.0.1');
});

t.test('sample services are started by a name that they know', async (t) => {
  const entry = JSON.parse(instruction('demo', 'ENTRYPOINT')[0]) as string[];
  t.ok(existsSync(join(root, entry[1])));
  const source = read(entry[1]);
  for (const [name, { command }] of apps) t.match(source, new RegExp(`^  ${command[0]}\\b`, 'm'), name);
});

t.test('every container shares a network that exists', async (t) => {
  for (const [name, { networks }] of containers) {
    t.strictSame(networks, Object.keys(compose.networks), name);
  }
});

t.test('the image is built in stages from files that exist', async (t) => {
  for (const target of ['runtime', 'demo']) t.ok(stages.has(target), target);
  for (const [name, { base, lines }] of stages) {
    t.ok(base.startsWith('node:') || stages.has(base), `${name} comes from ${base}`);
    for (const line of lines.filter((text) => text.startsWith('COPY '))) {
      const [, from] = /--from=(\S+)/.exec(line) ?? [];
      const sources = line
        .split(/\s+/)
        .slice(1, -1)
        .filter((word) => !word.startsWith('--'));
      t.ok(sources.length > 0, line);
      if (from !== undefined) t.ok(stages.has(from), line);
      else for (const source of sources) t.ok(existsSync(join(root, source)), `${name} copies ${source}`);
    }
  }
});

t.test('the image is built with everything that the build imports', async (t) => {
  const copied = instruction('build', 'COPY').flatMap((line) => line.split(/\s+/).slice(0, -1));
  const imports = globSync('scripts/*.ts', { cwd: root }).flatMap((file) =>
    [...read(file).matchAll(/^(?:import|export) .* from '\.\.\/([^/']+)/gm)].map(([, folder]) => folder),
  );
  t.ok(imports.length > 0);
  for (const folder of new Set(imports)) t.ok(copied.includes(folder), folder);
});

t.test('the image ships what package.json publishes, and nothing that only tests need', async (t) => {
  const copied = instruction('runtime', 'COPY').join(' ');
  const { files, bin } = JSON.parse(read('package.json')) as { files: string[]; bin: Record<string, string> };
  for (const file of files.filter((name) => name !== 'CHANGELOG.md' && !name.startsWith('!')))
    t.ok(copied.includes(file), file);
  t.notOk(/\b(?:test|bench|demo)\b/.test(copied));
  t.match(JSON.parse(instruction('runtime', 'ENTRYPOINT')[0]), ['node', `/app/${bin.selvedge}`]);
});

t.test('the image runs as a user without rights, with the Node that the project pins', async (t) => {
  for (const stage of ['runtime', 'demo']) t.strictSame(instruction(stage, 'USER'), ['node'], stage);
  const { optionalDependencies } = JSON.parse(read('package.json')) as { optionalDependencies: Record<string, string> };
  t.strictSame([...new Set(Object.values(optionalDependencies))], [/NODE_VERSION=(\S+)/.exec(dockerfile)?.[1]]);
});

t.test(
  'the image by itself runs a command that exists, and asks for readiness where the admin API listens',
  async (t) => {
    const [command, ...args] = JSON.parse(instruction('runtime', 'CMD')[0]) as string[];
    t.equal(command, runCommand.name);
    t.type(parsed(args).values.config, 'string');
    const { config } = await configOf(compose.services.edge);
    const [check] = instruction('runtime', 'HEALTHCHECK');
    t.ok(check.includes(`http://127.0.0.1:${config.admin?.port}/readyz`), check);
  },
);

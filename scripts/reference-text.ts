// The config reference as Markdown: every key of the schema with type, default, description and an example.
import { stringify } from 'yaml';
import { ConfigSchema } from '../src/config/schema.ts';

interface Node {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Node[];
  readonly items?: Node;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly patternProperties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly patternErrorMessage?: string;
}

const INTRODUCTION = `# Config reference

Generated from the schema by \`npm run docs:build\`. \`selvedge schema\` prints the same as JSON Schema for editors, \`selvedge print\` shows a
config with every default filled in and where each value came from, \`selvedge check\` says everything that is wrong with it.

## The file

A config is YAML, JSON or a module with \`export default defineConfig({ … })\` from \`selvedge\` (\`.ts\`, \`.mts\`, \`.js\`, \`.mjs\`): one file, or a directory whose
\`.yaml\`, \`.yml\`, \`.json\` and \`*.config.ts\` files are merged by name. A gateway, service or other key that two files define is an error; \`routes\` of
all files are joined, and their order never decides. Without \`-c\`, \`./selvedge.yaml\`, \`./selvedge.config.ts\` and \`./config/\` are tried in this order.
A module is read again on every reload, [by the thread that serves](operating.md#what-a-reload-costs); what it imports is not. TypeScript needs
Node 22.18 or later.

- **References.** \`\${NAME}\` in a value is an environment variable, \`\${NAME:-default}\` has a default for when it is unset or empty, \`\${file:path}\` is the
  content of a file (watched, up to 64 KiB, without its last line break), \`$\${\` is a literal \`\${\`. A number or boolean may come from a reference.
- **Paths** of certificates, plugins and \`\${file:…}\` start from the folder of the file that they are written in.
- **Durations** \`250ms\`, \`10s\`, \`5m\`, \`1h30m\`; **sizes** \`512B\`, \`64KiB\`, \`1MiB\` (a bare number is bytes); **shares** \`20%\`; **rates** \`240B/s\`.
- An empty value (\`cert: \`) means that the key is not given. Anchors, aliases and \`<<\` work.
- **Bounds.** A file has at most 8 MiB, a directory 1,000 files, aliases of one file stand for at most 100,000 values, nothing nests deeper than 64.
- **Not yet.** A key that the format has and this version does not act on is refused: \`not supported by this version\`.

Regular expressions are [RE2](https://github.com/google/re2/wiki/Syntax): they match the whole value in linear time, and have no lookaround and no
backreferences. In the paths below \`*\` is a name of yours and \`[]\` an item of a list.
`;

/** Throws for a key without description or without anything to show as example. */
export function configReference(): string {
  told.clear();
  const sections = Object.entries(ConfigSchema.properties as Readonly<Record<string, Node>>).map(([name, node]) => {
    const entries = [...walk(name, node, (ConfigSchema.required as readonly string[]).includes(name))];
    return `## ${name}\n\n${entries.join('\n')}`;
  });
  return `${INTRODUCTION}\n${sections.join('\n')}`;
}

function* walk(path: string, node: Node, required: boolean): Generator<string> {
  yield entry(path, node, required);
  yield* inside(path, node);
}

/** Shape → where its keys were told. */
const told = new Map<string, string>();
/** Keys of a shape that is told once, however often it occurs. */
const LARGE = 7;

function* inside(path: string, node: Node): Generator<string> {
  if (Object.keys(node.properties ?? {}).length >= LARGE) {
    const shape = JSON.stringify(node.properties);
    const before = told.get(shape);
    if (before !== undefined) {
      yield `The keys of \`${path}\` are those of \`${before}\`.\n`;
      return;
    }
    told.set(shape, path);
  }
  for (const [name, inner] of Object.entries(node.properties ?? {})) {
    yield* walk(`${path}.${name}`, inner, node.required?.includes(name) === true);
  }
  for (const inner of Object.values(node.patternProperties ?? {})) {
    if (hasKeys(inner)) yield* inside(`${path}.*`, inner);
  }
  if (node.items !== undefined) yield* inside(`${path}[]`, node.items);
  for (const branch of node.anyOf ?? []) yield* inside(path, branch);
}

function hasKeys(node: Node): boolean {
  return [node, ...(node.anyOf ?? [])].some(
    ({ properties, patternProperties }) => properties !== undefined || patternProperties !== undefined,
  );
}

function entry(path: string, node: Node, required: boolean): string {
  const { description } = node;
  if (description === undefined) throw new Error(`${path} has no description in the schema`);
  const example = node.examples?.[0] ?? node.const ?? node.enum?.[0] ?? node.default;
  if (example === undefined) throw new Error(`${path} has no example in the schema`);
  const state = required ? 'required' : node.default === undefined ? 'optional' : `default ${code(node.default)}`;
  const key = (path.split('.').at(-1) as string).replace('[]', '');
  const alternatives = (node.anyOf ?? []).flatMap((branch) =>
    branch.description === undefined ? [] : [`  - ${typeOf(branch)}: ${branch.description}`],
  );
  return [
    `### \`${path}\``,
    '',
    `${description}`,
    '',
    `- Type: ${typeOf(node)}; ${state}`,
    ...alternatives,
    `- Example: \`${stringify(
      { [key]: example },
      { collectionStyle: 'flow', lineWidth: 0, flowCollectionPadding: false },
    )
      .trim()
      .replace(/^\{(.*)\}$/s, '$1')}\``,
    '',
  ].join('\n');
}

function typeOf(node: Node): string {
  if (node.const !== undefined) return code(node.const);
  if (node.enum !== undefined) return node.enum.map(code).join(' or ');
  if (node.patternErrorMessage !== undefined) return node.patternErrorMessage.replace(/^must be /, '');
  if (node.anyOf !== undefined) return [...new Set(node.anyOf.map(typeOf))].join(', or ');
  if (node.items !== undefined) return `list of ${plural(typeOf(node.items))}`;
  if (node.patternProperties !== undefined)
    return `map of names to ${plural(typeOf(Object.values(node.patternProperties)[0]))}`;
  return [node.type ?? 'anything']
    .flat()
    .map((type) => TYPES[type] ?? type)
    .join(' or ');
}

const TYPES: Readonly<Record<string, string>> = {
  object: 'map',
  string: 'text',
  integer: 'whole number',
  array: 'list',
  null: 'nothing',
};

function plural(type: string): string {
  return type === 'map' ? 'maps' : type.includes(', or ') ? `(${type})` : type;
}

function code(value: unknown): string {
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

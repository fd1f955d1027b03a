// The options of every built-in plugin as Markdown, made from their schemas: what the pages in docs/plugins have to say.
import { DESCRIPTION } from '../../src/plugin.ts';
import { builtins } from '../../src/plugins/index.ts';

interface SchemaLike {
  readonly default?: unknown;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, SchemaLike>>;
  readonly items?: SchemaLike;
  readonly required?: readonly string[];
}

/** Plugin name → a table with one row an option, nested ones by their path. */
export async function optionTables(): Promise<Map<string, string>> {
  const tables = new Map<string, string>();
  for (const [name, load] of builtins) {
    const { default: plugin } = await load();
    const rows = rowsOf(plugin[DESCRIPTION].options as SchemaLike, '');
    tables.set(name, ['| option | default | |', '|---|---|---|', ...rows].join('\n'));
  }
  return tables;
}

function rowsOf(schema: SchemaLike, prefix: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, option]) => {
    const path = `${prefix}${key}`;
    const fallback =
      option.default !== undefined
        ? `\`${JSON.stringify(option.default)}\``
        : schema.required?.includes(key)
          ? 'required'
          : '';
    const row = `| \`${path}\` | ${fallback} | ${option.description ?? ''} |`;
    if (option.items?.properties !== undefined) return [row, ...rowsOf(option.items, `${path}[].`)];
    return [row, ...(key === 'to' ? [] : rowsOf(option, `${path}.`))];
  });
}

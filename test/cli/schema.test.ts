// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// What is generated from the schema: the file for editors, the reference, and `selvedge schema`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import t from 'tap';
import { parse } from 'yaml';
import { configReference } from '../../scripts/reference-text.ts';
import { command as schema } from '../../src/cli/schema.ts';
import { STARTER } from '../../src/cli/starter.ts';
import { jsonSchema } from '../../src/config/schema.ts';
import { runCommand } from './support/io.ts';

const root = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

t.test('selvedge.schema.json is what `selvedge schema` prints', async (t) => {
  const { code, stdout } = await runCommand(schema, [], root);
  t.equal(code, 0);
  t.ok(stdout === read('selvedge.schema.json'), 'npm run docs:build writes it');
  t.match(await runCommand(schema, ['x'], root), { code: 2 });
});

t.test('docs/config-reference.md is up to date', async (t) => {
  t.ok(configReference() === read('docs/config-reference.md'), 'npm run docs:build writes it');
});

t.test('the schema takes what `check` takes, references included', async (t) => {
  const valid = new Ajv({ strict: true, allowUnionTypes: true, keywords: ['patternErrorMessage'] }).compile(
    jsonSchema(),
  );
  const errors = (config: unknown): unknown => (valid(config) ? [] : valid.errors);
  t.strictSame(errors(parse(STARTER.replace(/\$\{([^}]*)\}/, '"${$1}"'))), []);
  t.strictSame(errors(parse(read('test/config/golden/whole.yaml'))), []);
  t.not(errors({ version: 1, gateways: { a: { listeners: [{ name: 'a', port: 'high' }] } } }), []);
  t.notOk(valid({ version: 1, gatways: {} }));
  t.notOk(valid({ version: 1, routes: [{ name: 'a', timeout: { request: 'soon' } }] }));
  t.ok(valid({ version: 1, routes: [{ name: 'a', timeout: { request: '${TIMEOUT:-5s}' } }] }));
});

t.test('every example and default of the schema fits the schema', async (t) => {
  const ajv = new Ajv({ strict: true, allowUnionTypes: true, keywords: ['patternErrorMessage'] });
  let seen = 0;
  const visit = (node: unknown, path: string): void => {
    if (typeof node !== 'object' || node === null) return;
    const { examples, default: fallback, ...rest } = node as { examples?: unknown[]; default?: unknown };
    for (const value of [
      ...(Array.isArray(examples) ? examples : []),
      ...(fallback === undefined || path.endsWith('properties') ? [] : [fallback]),
    ]) {
      seen++;
      const fits = ajv.compile(rest);
      // The default of an object stands for the defaults of its parts.
      t.ok(fits(value), `${path}: ${JSON.stringify(value)} ${JSON.stringify(fits.errors)}`);
    }
    for (const [key, inner] of Object.entries(rest)) visit(inner, `${path}.${key}`);
  };
  visit(JSON.parse(JSON.stringify(jsonSchema())), '');
  t.ok(seen > 100);
});

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: references as configs write them.
// `${…}` in values, units at their places and "did you mean": the small parts of reading a config, on random input.
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import t from 'tap';
import { resolveConfig } from '../../src/config/load.ts';
import { readYaml } from '../../src/config/read-yaml.ts';
import { regexProblem } from '../../src/config/regex.ts';
import { ConfigSchema } from '../../src/config/schema.ts';
import { looksSecret, substitute } from '../../src/config/substitute.ts';
import { didYouMean, editDistance, nearest } from '../../src/config/suggest.ts';

const context = (env: Record<string, string> = {}) => ({ env, dir: '/nowhere', sawFile: () => {} });
const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,12}$/);
const plain = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((text) => !text.includes('$'));

t.test('text without references stays what it is', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      fc.pre(!text.includes('${'));
      return substitute(text, context()).text === text;
    }),
  );
  t.pass();
});

t.test('every reference is replaced by its value, once, and nothing else changes', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(plain, name, fc.string({ minLength: 1 }))), plain, (parts, end) => {
      const env = Object.fromEntries(parts.map(([, key, value]) => [key, value]));
      const { text, variables, problems } = substitute(
        parts.map(([before, key]) => `${before}\${${key}}`).join('') + end,
        context(env),
      );
      const expected = parts.map(([before, key]) => before + env[key]).join('') + end;
      return text === expected && problems.length === 0 && variables.join() === parts.map(([, key]) => key).join();
    }),
  );
  t.pass();
});

t.test('an escaped reference is literal text', async (t) => {
  fc.assert(fc.property(plain, (inside) => substitute(`a$\${${inside}}b`, context()).text === `a\${${inside}}b`));
  t.equal(substitute('$$ $a ${A} $${A}', context({ A: '1' })).text, '$$ $a 1 ${A}');
});

t.test('a default stands in for what is unset or empty', async (t) => {
  fc.assert(
    fc.property(name, fc.option(fc.string(), { nil: undefined }), plain, (key, value, fallback) => {
      fc.pre(!fallback.includes('}'));
      const { text } = substitute(`\${${key}:-${fallback}}`, context(value === undefined ? {} : { [key]: value }));
      return text === (value === undefined || value === '' ? fallback : value);
    }),
  );
  t.strictSame(substitute('${A}', context({ A: '' })).problems, [], 'set and empty is set');
  t.match(substitute('${A}', context()).problems, [
    'environment variable A is not set; set it, or give a default: ${A:-…}',
  ]);
});

t.test('names that hold secrets look like it', async (t) => {
  for (const secret of ['JOIN_TOKEN', 'DB_PASSWORD', 'API_KEY', 'SECRET', 'redis_pass', 'AWS_SECRET_ACCESS_KEY'])
    t.ok(looksSecret(secret), secret);
  for (const open of ['PORT', 'KEYCLOAK_URL', 'COMPASS', 'HOST', 'MONKEY']) t.notOk(looksSecret(open), open);
  t.ok(substitute('a${DB_PASSWORD}', context({ DB_PASSWORD: 'x' })).secret);
});

t.test('references in flow collections survive the YAML parser, byte for byte', async (t) => {
  const file = { display: 'c.yaml', dir: '/nowhere' };
  const reading = { env: {}, sawFile: () => {} };
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[A-Za-z0-9_:\-/.,#[\]]{0,20}$/), async (inside) => {
      const { trees, problems } = await readYaml(`a: { b: $\${x${inside}}, c: 1 }`, file, reading);
      const [tree] = trees;
      const a = tree?.kind === 'dict' ? tree.entries.get('a')?.value : undefined;
      const b = a?.kind === 'dict' ? a.entries.get('b')?.value : undefined;
      return (
        problems.length === 0 &&
        b?.kind === 'leaf' &&
        b.value === `\${x${inside}}` &&
        a?.kind === 'dict' &&
        a.entries.size === 2
      );
    }),
  );
  t.pass();
});

t.test('nothing that a file may hold makes reading throw', async (t) => {
  const file = { display: 'c.yaml', dir: '/nowhere' };
  const piece = fc.constantFrom(
    'a',
    ': ',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '&x ',
    '*x',
    '<<: ',
    '${',
    '}',
    '"',
    "'",
    '|',
    '>',
    '#',
    '!!',
    '---\n',
    '\t',
    '?',
    ',',
    '\u0000',
    '\uf77b',
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 40 }), async (pieces) => {
      const { trees, problems } = await readYaml(pieces.join(''), file, { env: {}, sawFile: () => {} });
      return trees.length >= 0 && problems.every(({ message }) => message.length > 0);
    }),
    { numRuns: 400 },
  );
  t.pass();
});

t.test('nothing that an object may hold makes resolving throw', async (t) => {
  const keys = [
    'version',
    'mesh',
    'admin',
    'gateways',
    'services',
    'routes',
    'name',
    'listeners',
    'endpoints',
    'to',
    'match',
    'path',
    'plugins',
    'tls',
    'internal',
    'inbound',
    'port',
    'headers',
    'x',
  ];
  const scalar = fc.constantFrom<unknown>('', 'a', '/a', 1, 0, -1, true, false, null, '10s', '*.a', 'a:1', 'off');
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'medium' },
      scalar,
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...keys), tie('value'), { maxKeys: 6 }),
    ),
  }));
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 8 }), async (input) => {
      const { config, problems } = await resolveConfig({ version: 1, ...input } as never, { env: {} });
      return (config === null) === problems.some(({ severity }) => severity === 'error');
    }),
    { numRuns: 400 },
  );
  t.pass();
});

t.test('a mistyped name is recognised, a different one is not', async (t) => {
  t.equal(didYouMean('ordrs', ['orders', 'web']), ' (did you mean "orders"?)');
  t.equal(nearest('oredrs', ['orders']), 'orders', 'a swap is one slip');
  t.equal(nearest('ORDERS', ['orders']), 'orders');
  t.equal(nearest('v2', ['v1']), 'v1');
  t.equal(nearest('inventory', ['orders', 'web']), null);
  t.equal(nearest('a', ['b']), 'b');
  t.equal(nearest('x'.repeat(1_000), ['orders']), null);
});

t.test('the edit distance is a distance', async (t) => {
  const word = fc.string({ maxLength: 8, unit: fc.constantFrom('a', 'b', 'c') });
  fc.assert(
    fc.property(word, word, (a, b) => {
      const distance = editDistance(a, b, 100);
      return (
        distance === editDistance(b, a, 100) &&
        (distance === 0) === (a === b) &&
        distance <= Math.max(a.length, b.length) &&
        distance >= Math.abs(a.length - b.length)
      );
    }),
  );
  t.equal(editDistance('abc', 'xyz', 2), 2, 'never above the bound');
});

t.test('a regex is accepted exactly when RE2 takes it and it stays small', async (t) => {
  for (const good of ['/orders/[0-9]+', '(a|b)*', '(?i)x', '\\d{1,10}', '']) t.equal(regexProblem(good), null, good);
  for (const bad of ['(', '(?=a)', '(?<!a)b', '(a)\\1', 'a{2000}', `(${'a{100}'.repeat(30)}){5}`, 'x'.repeat(5_000)])
    t.type(regexProblem(bad), 'string', bad.slice(0, 20));
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '(', ')', '*', '|', '[', ']', '?', '\\', '.', '+'), maxLength: 12 }),
      (source) => {
        const problem = regexProblem(source);
        if (problem !== null) return true;
        return RE2JS.compile(source).programSize() <= 1_000;
      },
    ),
  );
});

t.test('units that are well formed but mean nothing are refused at their place', async (t) => {
  const withLimits = async (limits: Record<string, unknown>) => {
    const { problems } = await resolveConfig({
      version: 1,
      gateways: { a: { limits, listeners: [{ name: 'a', port: 80 }] } },
    } as never);
    return problems.map(({ path, message }) => `${path.replace('gateways.a.limits.', '')}: ${message}`);
  };
  t.strictSame(await withLimits({ headerBytes: '0.3B', bodyMinRate: '1B/0s' }), [
    'headerBytes: "0.3B" is not a size of whole bytes (512B, 64KiB, 1MiB)',
    'bodyMinRate: "1B/0s" is not a rate (240B/s, 100/30s)',
  ]);
});

t.test('the schema is a JSON Schema: the config validator does not ask again at every start', async (t) => {
  const ajv = new Ajv({ strict: false });
  t.ok(ajv.validateSchema(ConfigSchema), ajv.errorsText());
});

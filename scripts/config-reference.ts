// `npm run docs:build`: writes what comes from the schema, docs/config-reference.md and selvedge.schema.json.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { jsonSchema } from '../src/config/schema.ts';
import { configReference } from './reference-text.ts';

const root = join(import.meta.dirname, '..');
writeFileSync(join(root, 'docs/config-reference.md'), configReference());
writeFileSync(join(root, 'selvedge.schema.json'), `${JSON.stringify(jsonSchema(), null, 2)}\n`);

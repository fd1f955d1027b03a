// `selvedge schema`: the JSON Schema of configs, for editors.
import { jsonSchema } from '../config/schema.ts';
import { type Command, EXIT, UsageError } from './command.ts';

export const command: Command = {
  name: 'schema',
  summary: 'Print the JSON Schema of configs',
  help: `selvedge schema > selvedge.schema.json

Prints the JSON Schema (draft 7) of configs. Editors complete and check YAML with it when the config begins with

  # yaml-language-server: $schema=./selvedge.schema.json

Exit codes: 0 good, 2 wrong usage.`,
  options: {},
  async run({ positionals }, io) {
    if (positionals.length > 0) throw new UsageError(`schema takes no argument "${positionals[0]}"`);
    io.stdout.write(`${JSON.stringify(jsonSchema(), null, 2)}\n`);
    return EXIT.good;
  },
};

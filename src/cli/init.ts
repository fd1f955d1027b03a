// `selvedge init`: a first config that works, with the schema beside it so that editors help from the first key on.
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { jsonSchema } from '../config/schema.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { STARTER } from './starter.ts';

const SCHEMA = 'selvedge.schema.json';

export const command: Command = {
  name: 'init',
  summary: 'Write a commented config to start from',
  help: `selvedge init [PATH] [--force]

  PATH       the file to write; default ./selvedge.yaml. Of a folder: selvedge.yaml inside it
  --force    overwrite what is there

Writes a gateway on port 8080 in front of http://localhost:3000, and ${SCHEMA} next to it for editors.

Exit codes: 0 written, 1 something is there already or cannot be written, 2 wrong usage.`,
  options: { force: { type: 'boolean' } },
  async run({ values, positionals }, io) {
    const [written = 'selvedge.yaml', extra] = positionals;
    if (extra !== undefined) throw new UsageError(`init takes no second argument "${extra}"`);
    const asked = resolve(io.cwd, written);
    const config = written.endsWith('/') || (await isDirectory(asked)) ? join(asked, 'selvedge.yaml') : asked;
    if (!/\.ya?ml$/.test(config)) throw new UsageError(`"${written}" does not end in .yaml`);
    const files = [
      { path: config, text: STARTER },
      { path: join(dirname(config), SCHEMA), text: `${JSON.stringify(jsonSchema(), null, 2)}\n` },
    ];
    try {
      await mkdir(dirname(config), { recursive: true });
      if (values.force !== true) {
        for (const { path } of files) {
          if (!(await exists(path))) continue;
          io.stderr.write(`${relative(io.cwd, path)} exists already; --force overwrites it\n`);
          return EXIT.checkFailed;
        }
      }
      for (const { path, text } of files) await writeFile(path, text, { flag: values.force === true ? 'w' : 'wx' });
    } catch (error) {
      io.stderr.write(`cannot write ${written}: ${(error as Error).message}\n`);
      return EXIT.checkFailed;
    }
    const shown = relative(io.cwd, config);
    const option = shown === 'selvedge.yaml' ? '' : ` -c ${shown}`;
    io.stdout.write(
      `wrote ${files.map(({ path }) => relative(io.cwd, path)).join(' and ')}\nnext: selvedge check${option}, then selvedge run${option}\n`,
    );
    return EXIT.good;
  },
};

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

// The licences of the packages that are part of dist/: whoever passes code on passes its terms on as well.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `inputs`: paths from `root` of everything that was bundled. Throws for a package that says nothing of its terms. */
export function licencesOf(root: string, inputs: readonly string[]): string {
  const folders = new Set(
    inputs.flatMap((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0] ?? []),
  );
  const parts = [...folders].map((folder) => licenceOf(join(root, folder))).sort();
  return `The files in this folder contain code of these packages.\n\n${[...new Set(parts)].join('\n')}`;
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
  readonly author?: string | { readonly name: string };
}

function licenceOf(folder: string): string {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
  const { name, version, license, author } = manifest;
  const file = readdirSync(folder).find((entry) => /^(?:licen[cs]e|copying)(?:\.(?:md|txt))?$/i.test(entry));
  if (license === undefined && file === undefined) throw new Error(`${name} does not say under which terms it is`);
  const holder = typeof author === 'object' ? author.name : author;
  const text = file === undefined ? `Copyright ${holder ?? 'its authors'}` : readFileSync(join(folder, file), 'utf8');
  const notice = existsSync(join(folder, 'NOTICE')) ? `\n${readFileSync(join(folder, 'NOTICE'), 'utf8').trim()}\n` : '';
  return `${'-'.repeat(80)}\n${name} ${version} (${license ?? 'see below'})\n\n${text.trim()}\n${notice}`;
}

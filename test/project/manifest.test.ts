// package.json and its lock: what makes `npm ci` give everybody the same, on every platform.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
  readonly hasInstallScript?: boolean;
  readonly dev?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, '../..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Entry;
const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
  packages: Readonly<Record<string, Entry>>;
};
const installed = Object.entries(packages).filter(([path]) => path !== '');

t.test('every dependency is pinned to one version', async (t) => {
  const { dependencies, devDependencies, optionalDependencies } = manifest;
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
    t.match(version, /^\d+\.\d+\.\d+$/, name);
    t.equal(packages[`node_modules/${name}`]?.version, version, `${name} in the lock`);
  }
});

t.test('the lock knows the optional packages of every platform, not only of the one it was made on', async (t) => {
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
    ),
  );
  t.strictSame(missing, []);
});

t.test('the lock names no registry but the public one, and checks what it installs', async (t) => {
  t.ok(installed.length > 100, `${installed.length} packages`);
  const elsewhere = installed.filter(
    ([, { resolved }]) => !(resolved ?? 'https://registry.npmjs.org/').startsWith('https://registry.npmjs.org/'),
  );
  t.strictSame(elsewhere, []);
  const unchecked = installed.filter(([, { integrity }]) => integrity === undefined);
  // Packages for other platforms than 64-bit glibc Linux have no digest here: npm skips them where this lock is tested.
  const needed = unchecked.filter(
    ([, { optional, os, cpu, libc }]) =>
      optional !== true || (os?.includes('linux') && /^(?:x64|arm64)$/.test(cpu?.[0] ?? '') && !libc?.includes('musl')),
  );
  t.strictSame(needed, []);
});

t.test('nothing that is installed with the published package runs a script', async (t) => {
  t.strictSame(
    installed.filter(([, { dev, hasInstallScript }]) => !dev && hasInstallScript).map(([path]) => path),
    [],
  );
});

import { writeFileSync } from 'node:fs';
import { definePlugin, Type } from '../../../src/plugin.ts';

/** Loads in the first process that makes its file, and in no other. */
export default definePlugin({ name: 'once', options: Type.Object({ file: Type.String() }) }, async (_app, { file }) => {
  try {
    writeFileSync(file, '', { flag: 'wx' });
  } catch {
    throw new Error('not in a second worker');
  }
});

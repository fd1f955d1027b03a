import t from 'tap';
import { wholeLines } from '../../src/lines/descriptor.ts';

const line = (length: number) => `${'x'.repeat(length - 1)}\n`;

t.test('what goes out in one write are whole lines, 4096 bytes at most, or one that is longer', async (t) => {
  const cut = (...lengths: number[]) => wholeLines(Buffer.from(lengths.map(line).join(''))).length;
  t.equal(cut(4_000), 4_000);
  t.equal(cut(4_000, 96), 4_096);
  t.equal(cut(4_000, 97), 4_000);
  t.equal(cut(100, 5_000), 100);
  t.equal(cut(5_000, 100), 5_000);
  t.equal(wholeLines(Buffer.alloc(9_000)).length, 9_000, 'what is no line at all is not cut');
});

import fc from 'fast-check';
import t from 'tap';
import {
  DerError,
  DerReader,
  element,
  oid,
  onlyElement,
  readBoolean,
  readOid,
  readTime,
  sequence,
  TAG,
  time,
  unsigned,
} from '../../src/identity/der.ts';

const SEED = { seed: 7 };

t.test('what was written is read again, whatever its length', async (_t) => {
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.integer({ min: 0, max: 70_000 }).map((length) => new Uint8Array(length)),
  );
  fc.assert(
    fc.property(fc.array(content, { maxLength: 4 }), (contents) => {
      const written = sequence(...contents.map((one) => element(TAG.octetString, one)));
      const reader = new DerReader(onlyElement(written).content);
      const same = contents.every((one) => reader.expect(TAG.octetString).content.equals(one));
      return same && reader.done;
    }),
    SEED,
  );
});

t.test('object identifiers and times come back as they were', async (_t) => {
  const arc = fc.integer({ min: 0, max: 2 ** 40 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 }), fc.nat(39), fc.array(arc, { maxLength: 6 }), (first, second, rest) => {
      const dotted = [first, second, ...rest].join('.');
      return readOid(onlyElement(oid(dotted), TAG.oid)) === dotted;
    }),
    SEED,
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Date.UTC(2199, 0) / 1000 }), (seconds) => {
      const tag = seconds * 1000 < Date.UTC(2050, 0) ? TAG.utcTime : TAG.generalizedTime;
      return readTime(onlyElement(time(seconds * 1000), tag)) === seconds * 1000;
    }),
    SEED,
  );
});

t.test('numbers are as short as they can be, and never negative', async (t) => {
  const hex = (...octets: number[]): string => unsigned(Buffer.from(octets)).toString('hex');
  t.equal(hex(0), '020100');
  t.equal(hex(0, 0, 5), '020105');
  t.equal(hex(0x80), '02020080');
});

t.test('true is said in one way only', async (t) => {
  const read = (hex: string): boolean => readBoolean(onlyElement(Buffer.from(hex, 'hex'), TAG.boolean));
  t.equal(read('0101ff'), true);
  t.equal(read('010100'), false);
  t.equal(readBoolean(null), false);
  t.throws(() => read('010101'), DerError);
  t.throws(() => read('0100'), DerError);
});

t.test('what is not DER is refused, and nothing else than DerError is thrown', async (t) => {
  for (const [hex, why] of [
    ['30', 'no length'],
    ['3080', 'an indefinite length'],
    ['308100', 'a long form that need not be'],
    [`30817f${'00'.repeat(127)}`, 'a long form for 127'],
    [`308200ff${'00'.repeat(255)}`, 'a leading zero'],
    ['3003000000' + '00', 'something after it'],
    ['300500', 'less than it says'],
    ['3f8101' + '00', 'a long tag'],
    ['3085010000000000', 'a length of five octets'],
  ])
    t.throws(() => onlyElement(Buffer.from(hex, 'hex')), DerError, why);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
      const reader = new DerReader(Buffer.from(octets));
      try {
        while (!reader.done) reader.next();
      } catch (error) {
        return error instanceof DerError;
      }
      return true;
    }),
    { ...SEED, numRuns: 1_000 },
  );
});

// Credentials in query and cookies: found however their names are written, and taken out without touching the rest.
import t from 'tap';
import { withoutCookie } from '../../src/http/cookies.ts';
import { queryValues, withoutQuery } from '../../src/http/query.ts';

t.test('values of a query parameter', async (t) => {
  t.strictSame(queryValues('', 'key'), []);
  t.strictSame(queryValues('a=1&key=x&b', 'key'), ['x']);
  t.strictSame(queryValues('key=x&%6bey=y%2Bz&key&key=', 'key'), ['x', 'y+z', '', '']);
  t.strictSame(queryValues('api+key=1&api%20key=2', 'api key'), ['1', '2']);
  t.strictSame(queryValues('key=%zz&Key=1&xkey=2&key[]=3', 'key'), ['%zz']);
  t.strictSame(queryValues('a=b=key=1', 'key'), []);
});

t.test('a query without a parameter keeps every other byte', async (t) => {
  t.equal(withoutQuery('key=x', 'key'), '');
  t.equal(withoutQuery('key', 'key'), '');
  t.equal(withoutQuery('a=%zz&&key=x&b=+1&%6Bey=y&', 'key'), 'a=%zz&&b=+1&');
  t.equal(withoutQuery('a=key&b', 'key'), 'a=key&b');
  t.equal(withoutQuery('', 'key'), '');
});

t.test('a Cookie header without a cookie', async (t) => {
  t.equal(withoutCookie(undefined, 'k'), undefined);
  t.equal(withoutCookie('k=1', 'k'), undefined);
  t.equal(withoutCookie('k=1; k="2" ;', 'k'), undefined);
  t.equal(withoutCookie('a=1; k=2; b=3; k=4', 'k'), 'a=1; b=3');
  t.equal(withoutCookie('k=2; a=k=1', 'k'), 'a=k=1');
  t.equal(withoutCookie('K=2; kk=1; k', 'k'), 'K=2; kk=1; k');
});

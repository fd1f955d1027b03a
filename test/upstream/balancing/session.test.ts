import { createHmac } from 'node:crypto';
import t from 'tap';
import { SessionTags, serializeSessionCookie, sessionTag } from '../../../src/upstream/balancing/session.ts';
import { endpointAt } from './support/members.ts';

const secret = Buffer.from('a secret of some length');

t.test('a tag', async (t) => {
  t.test('is 128 bits of an HMAC that only the secret makes', async (t) => {
    const tag = sessionTag(secret, 'orders', '10.0.0.5:3000');
    const digest = createHmac('sha256', secret).update('orders\n10.0.0.5:3000').digest();
    t.equal(tag, digest.subarray(0, 16).toString('base64url'));
    t.match(tag, /^[\w-]{22}$/, 'a cookie value needs no quotes for it');
  });

  t.test('is another for another secret, service or address', async (t) => {
    const tags = [
      sessionTag(secret, 'orders', '10.0.0.5:3000'),
      sessionTag(Buffer.from('another'), 'orders', '10.0.0.5:3000'),
      sessionTag(secret, 'order', 's10.0.0.5:3000'),
      sessionTag(secret, 'users', '10.0.0.5:3000'),
      sessionTag(secret, 'orders', '10.0.0.5:3001'),
    ];
    t.equal(new Set(tags).size, tags.length);
  });
});

t.test('tags of a service', async (t) => {
  const endpoints = [endpointAt('a:1'), endpointAt('b:1')];
  const tags = new SessionTags(secret, 'orders', endpoints);

  t.test('lead to their endpoints and back', async (t) => {
    for (const endpoint of endpoints) t.equal(tags.endpointOf(tags.tagOf(endpoint) as string), endpoint);
    t.not(tags.tagOf(endpoints[0]), tags.tagOf(endpoints[1]));
  });

  t.test('stay when other endpoints come and go, or the same one is compiled anew', async (t) => {
    const after = new SessionTags(secret, 'orders', [endpointAt('c:1'), endpointAt('b:1')]);
    t.equal(after.endpointOf(tags.tagOf(endpoints[1]) as string)?.address, 'b:1');
    t.equal(after.endpointOf(tags.tagOf(endpoints[0]) as string), null, 'its endpoint is gone');
  });

  t.test('that are made up, of another service or another secret lead nowhere', async (t) => {
    const strangers = [
      new SessionTags(secret, 'users', endpoints).tagOf(endpoints[0]),
      new SessionTags(Buffer.from('another'), 'orders', endpoints).tagOf(endpoints[0]),
      'a:1',
      '',
      '__proto__',
      `${tags.tagOf(endpoints[0])}=`,
      tags.tagOf(endpoints[0])?.toLowerCase(),
    ];
    for (const tag of strangers) t.equal(tags.endpointOf(tag as string), null, `${tag}`);
    t.equal(tags.tagOf(endpointAt('a:1')), null, 'an endpoint of another config');
  });

  t.test('of an application behind two hops lead to the first', async (t) => {
    const twins = [endpointAt('a:1', 'h1:1'), endpointAt('a:1', 'h2:1')];
    const both = new SessionTags(secret, 'orders', twins);
    t.equal(both.tagOf(twins[0]), both.tagOf(twins[1]));
    t.equal(both.endpointOf(both.tagOf(twins[1]) as string), twins[0]);
  });
});

t.test('the cookie', async (t) => {
  const session = {
    kind: 'cookie',
    name: 'slv',
    maxAgeS: null,
    sameSite: 'lax',
    secure: 'auto',
    httpOnly: true,
    secret: null,
  } as const;

  t.test('lasts as long as the browser and is out of reach of scripts, unless the config says otherwise', async (t) => {
    t.equal(serializeSessionCookie(session, 'TAG', false), 'slv=TAG; Path=/; HttpOnly; SameSite=Lax');
    const other = { ...session, maxAgeS: 3_600, httpOnly: false, sameSite: 'strict' } as const;
    t.equal(serializeSessionCookie(other, 'TAG', false), 'slv=TAG; Path=/; Max-Age=3600; SameSite=Strict');
  });

  t.test('is for https alone when it was set by https, or always or never', async (t) => {
    const secure = (value: boolean | 'auto', https: boolean) =>
      serializeSessionCookie({ ...session, secure: value }, 'TAG', https).includes('; Secure;');
    t.same([secure('auto', true), secure('auto', false)], [true, false]);
    t.same([secure(true, true), secure(true, false)], [true, true]);
    t.same([secure(false, true), secure(false, false)], [false, false]);
  });

  t.test('may go along to other sites', async (t) => {
    const none = { ...session, sameSite: 'none' } as const;
    t.equal(serializeSessionCookie(none, 'TAG', true), 'slv=TAG; Path=/; Secure; HttpOnly; SameSite=None');
  });
});

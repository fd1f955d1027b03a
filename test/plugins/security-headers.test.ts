// security-headers: what is added by default and by option, what of the service stays, and what a config may not say.
import t from 'tap';
import { type ChainOptions, testChain } from '../support/chain.ts';

type Ends = { teardown(end: () => unknown): unknown };

async function headersWith(
  t: Ends,
  options: Record<string, unknown>,
  {
    scheme = 'https',
    answer,
    behind = [],
  }: {
    scheme?: 'http' | 'https';
    answer?: ChainOptions['answer'];
    behind?: [string, Record<string, unknown>?][];
  } = {},
): Promise<Record<string, unknown>> {
  const chain = await testChain([['security-headers', options], ...behind], { exchange: { scheme }, answer });
  t.teardown(() => chain.close());
  const {
    'content-length': _length,
    'content-type': _type,
    date: _date,
    connection: _connection,
    ...headers
  } = (await chain.inject({ url: '/' })).headers;
  return headers;
}

const OFF = { hsts: false, contentTypeOptions: false, frameAncestors: false, referrerPolicy: false } as const;

t.test('the defaults, over https and over http', async (t) => {
  const always = {
    'x-content-type-options': 'nosniff',
    'content-security-policy': "frame-ancestors 'self'",
    'x-frame-options': 'SAMEORIGIN',
    'referrer-policy': 'strict-origin-when-cross-origin',
  };
  t.strictSame(await headersWith(t, {}), { ...always, 'strict-transport-security': 'max-age=31536000' });
  t.strictSame(await headersWith(t, {}, { scheme: 'http' }), always, 'no HSTS over plain HTTP');
});

t.test('each option', async (t) => {
  for (const [options, expected] of [
    [
      { hsts: { maxAge: '730d', includeSubDomains: true, preload: true } },
      { 'strict-transport-security': 'max-age=63072000; includeSubDomains; preload' },
    ],
    [{ hsts: { maxAge: '0' } }, { 'strict-transport-security': 'max-age=0' }],
    [{ contentTypeOptions: true }, { 'x-content-type-options': 'nosniff' }],
    [{ frameAncestors: ['none'] }, { 'content-security-policy': "frame-ancestors 'none'", 'x-frame-options': 'DENY' }],
    [
      { frameAncestors: ['self', 'https://*.example.com'] },
      { 'content-security-policy': "frame-ancestors 'self' https://*.example.com" },
    ],
    [{ contentSecurityPolicy: "default-src 'self';" }, { 'content-security-policy': "default-src 'self'" }],
    [
      { contentSecurityPolicy: "default-src 'self';", frameAncestors: ['none'] },
      { 'content-security-policy': "default-src 'self'; frame-ancestors 'none'", 'x-frame-options': 'DENY' },
    ],
    [
      { contentSecurityPolicy: "default-src 'self'; Frame-Ancestors *", frameAncestors: ['self'] },
      { 'content-security-policy': "default-src 'self'; Frame-Ancestors *" },
    ],
    [{ referrerPolicy: 'no-referrer' }, { 'referrer-policy': 'no-referrer' }],
    [
      { permissionsPolicy: { camera: [], geolocation: ['self', 'https://maps.example.com'], usb: ['*'] } },
      { 'permissions-policy': 'camera=(), geolocation=(self "https://maps.example.com"), usb=*' },
    ],
    [{ crossOriginOpenerPolicy: 'same-origin' }, { 'cross-origin-opener-policy': 'same-origin' }],
    [{ crossOriginResourcePolicy: 'same-site' }, { 'cross-origin-resource-policy': 'same-site' }],
  ] as const)
    t.strictSame(await headersWith(t, { ...OFF, ...options }), expected, JSON.stringify(options));
});

const careless = () => ({
  headers: {
    server: 'nginx/1.2',
    'x-powered-by': 'PHP/5',
    'x-aspnet-version': '4',
    'referrer-policy': 'unsafe-url',
    'x-frame-options': 'DENY',
    'content-security-policy': 'default-src *; frame-ancestors https://partner.example',
    'strict-transport-security': 'max-age=1',
  },
});

t.test('what the service says stays, but for what tells on it', async (t) => {
  t.strictSame(await headersWith(t, {}, { answer: careless }), {
    'x-aspnet-version': '4',
    'referrer-policy': 'unsafe-url',
    'x-frame-options': 'DENY',
    'content-security-policy': 'default-src *; frame-ancestors https://partner.example',
    'strict-transport-security': 'max-age=1',
    'x-content-type-options': 'nosniff',
  });
});

t.test('unless told to override it', async (t) => {
  t.strictSame(await headersWith(t, { override: true, remove: ['Server', 'X-AspNet-Version'] }, { answer: careless }), {
    'x-powered-by': 'PHP/5',
    'referrer-policy': 'strict-origin-when-cross-origin',
    'x-frame-options': 'SAMEORIGIN',
    'content-security-policy': "frame-ancestors 'self'",
    'strict-transport-security': 'max-age=31536000',
    'x-content-type-options': 'nosniff',
  });
});

t.test('a policy of the service that says nothing of frames gets ours beside it', async (t) => {
  const answer = () => ({ headers: { 'content-security-policy': "default-src 'self'" } });
  const options = { ...OFF, frameAncestors: ['https://partner.example'] };
  t.strictSame(await headersWith(t, options, { answer }), {
    'content-security-policy': ["default-src 'self'", 'frame-ancestors https://partner.example'],
  });
});

t.test('answers of plugins have them too, and response-headers behind it has the last word', async (t) => {
  const refused = await headersWith(t, {}, { behind: [['mtls', { require: true }]] });
  t.match(refused, { 'x-content-type-options': 'nosniff', 'strict-transport-security': 'max-age=31536000' });
  const changed = await headersWith(t, {}, { behind: [['response-headers', { set: { 'x-frame-options': 'DENY' } }]] });
  t.equal(changed['x-frame-options'], 'DENY');
});

t.test('what check refuses', async (t) => {
  for (const [options, message] of [
    [{ hsts: { maxAge: '500ms' } }, /hsts\.maxAge: must be whole seconds/],
    [{ hsts: { maxAge: '365d', preload: true } }, /hsts\.preload: browsers preload only with "includeSubDomains"/],
    [{ hsts: { maxAge: '30d', includeSubDomains: true, preload: true } }, /hsts\.preload: .*"maxAge" of 365d or more/],
    [{ frameAncestors: [] }, /frameAncestors/],
    [{ frameAncestors: ['none', 'self'] }, /frameAncestors\[0\]: "none" stands alone/],
    [{ frameAncestors: ["'self'"] }, /frameAncestors\[0\]: .* is neither self, none nor an origin/],
    [{ frameAncestors: ['https://a.example; script-src *'] }, /frameAncestors\[0\]/],
    [
      { frameAncestors: ['none'], contentSecurityPolicy: "frame-ancestors 'self'" },
      /frameAncestors: "contentSecurityPolicy" has frame-ancestors too/,
    ],
    [{ contentSecurityPolicy: "default-src 'self'\nx: y" }, /contentSecurityPolicy: has line breaks/],
    [{ referrerPolicy: 'none' }, /referrerPolicy/],
    [{ permissionsPolicy: { Camera: [] } }, /permissionsPolicy\.Camera: "Camera" is not the name of a feature/],
    [{ permissionsPolicy: { camera: ['me'] } }, /permissionsPolicy\.camera\[0\]: "me" is neither self/],
    [{ permissionsPolicy: { camera: ['*', 'self'] } }, /permissionsPolicy\.camera: "\*" stands for everybody/],
    [{ remove: ['content-length'] }, /remove\[0\]: "content-length" belongs to the connection/],
    [{ ...OFF, remove: [] }, /does nothing/],
    [{ hst: false }, /unknown key "hst"/],
  ] as const)
    await t.rejects(testChain([['security-headers', options]]), { message }, JSON.stringify(options));
});

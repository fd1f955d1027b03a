// errorPages: who gets a page, what is put into it, and what no template may be.
import fc from 'fast-check';
import t from 'tap';
import { acceptQuality } from '../../src/http/accept.ts';
import { ErrorPages, templateProblem } from '../../src/http/error-pages.ts';

const FACTS = { status: 404, title: 'No route', code: 'SLV_ROUTE_NOT_FOUND', detail: '', requestId: 'id-1' };
const CHROME = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8';

t.test('the weight of a type', (t) => {
  for (const [accept, type, expected] of [
    [undefined, 'text/html', 1],
    ['', 'text/html', 1],
    ['*/*', 'text/html', 1],
    [CHROME, 'text/html', 1],
    [CHROME, 'application/json', 0.8],
    ['TEXT/HTML;Q=0.3', 'text/html', 0.3],
    ['text/*;q=0.5, text/html;q=0.1, */*', 'text/html', 0.1],
    ['*/*, text/*;q=0.5', 'text/html', 0.5],
    ['text/html;level=1;q=0.4', 'text/html', 0.4],
    ['text/html;q=2', 'text/html', 0],
    ['application/json', 'text/html', 0],
    ['text/html;q=0', 'text/html', 0],
    [`${'a/b,'.repeat(64)}text/html`, 'text/html', 0],
  ] as const)
    t.equal(acceptQuality(accept, type), expected, `${accept}`);
  t.end();
});

t.test('a page is for who wants HTML rather than JSON; everybody else gets JSON', (t) => {
  const pages = new ErrorPages([
    { statuses: '404', html: '<h1>{{title}}</h1>', json: null },
    { statuses: '4xx', html: '<p>{{ status }}', json: '{"error":"{{code}}","status":{{status}}}' },
    { statuses: '503', html: null, json: '{}' },
  ]);
  const render = (accept: string | undefined, status = 404) => {
    const page = pages.render({ ...FACTS, status }, accept);
    return page === null ? null : `${page.contentType}: ${page.body}`;
  };
  t.equal(render(CHROME), 'text/html; charset=utf-8: <h1>No route</h1>');
  for (const accept of [undefined, '*/*', 'application/json, text/html', 'application/*, text/html', 'image/png'])
    t.equal(render(accept), null, `${accept}`);
  t.equal(render('application/json;q=0.2, text/html;q=0.3'), 'text/html; charset=utf-8: <h1>No route</h1>');
  t.equal(render(CHROME, 429), 'text/html; charset=utf-8: <p>429', 'of its class');
  const json = 'application/json: {"error":"SLV_ROUTE_NOT_FOUND","status":429}';
  for (const accept of [undefined, '*/*', 'application/json']) t.equal(render(accept, 429), json, `${accept}`);
  t.equal(render('application/problem+json', 429), null, 'who asks for the problem document gets it');
  t.equal(render(CHROME, 500), null);
  t.equal(render(CHROME, 503), 'application/json: {}');
  t.end();
});

t.test('nothing of a request can become markup, or leave its JSON string', (t) => {
  const pages = new ErrorPages([
    {
      statuses: '4xx',
      html: '<p title="{{detail}}">{{detail}}</p>',
      json: '{"detail":"{{detail}}","id":"{{requestId}}"}',
    },
  ]);
  const evil = `"><script>alert(1)</script>' {{code}} \\ \n\u2028`;
  const html = `${pages.render({ ...FACTS, detail: evil }, CHROME)?.body}`;
  t.notMatch(html, '<script');
  t.match(html, '{{code}}', 'what is filled in is no template');
  fc.assert(
    fc.property(fc.string(), fc.string(), (detail, requestId) => {
      const facts = { ...FACTS, detail, requestId };
      const { body } = pages.render(facts, undefined) as { body: Buffer };
      t.strictSame(
        JSON.parse(`${body}`),
        JSON.parse(Buffer.from(JSON.stringify({ detail, id: requestId })).toString()),
      );
      const page = `${pages.render(facts, CHROME)?.body}`;
      t.equal(page.split('<').length, 3);
      t.equal(page.split('"').length, 3);
    }),
    { numRuns: 50 },
  );
  t.end();
});

t.test('templates that cannot be used', (t) => {
  t.equal(templateProblem('<p>{{status}} {{ requestId }}', 'html'), null);
  t.match(templateProblem('<p>{{stauts}}', 'html'), /^{{stauts}} is not known: there are {{status}}, {{title}}/);
  t.match(templateProblem('<p>{{constructor}}', 'html'), /is not known/);
  t.equal(templateProblem('{"a":"{{title}}","s":{{status}}}', 'json'), null);
  t.match(templateProblem('{"a":{{title}}}', 'json'), /is no JSON once .* stand inside quotes/);
  t.match(templateProblem('{"a":1', 'json'), /is no JSON/);
  t.end();
});

// `selvedge ca`: made, served and asked on the command line, as an operator would, with a real process for the service.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { command as ca } from '../../src/cli/ca.ts';
import { authorityFiles } from '../../src/identity/authority-directory.ts';
import { isRevoked } from '../../src/identity/ca/revoked.ts';
import { caSource } from '../../src/identity/ca-client.ts';
import { filesSource } from '../../src/identity/files.ts';
import { chainOf } from '../identity/support/authorities.ts';
import { DOMAIN, ORDERS } from '../identity/support/ca-service.ts';
import { listeningLog } from '../identity/support/log.ts';
import { runCommand } from './support/io.ts';
import { SelvedgeProcess } from './support/process.ts';

async function made(t: Test) {
  const cwd = t.testdir({});
  const run = (...args: string[]) => runCommand(ca, args, cwd);
  const init = await run('init', '--trust-domain', DOMAIN);
  return { cwd, run, init, dir: join(cwd, '.selvedge/ca') };
}

t.test('init makes a CA, says what to do next, and never overwrites one', async (t) => {
  const { run, init, dir } = await made(t);
  t.match(init, { code: 0, stderr: '' });
  t.match(init.stdout, /made the CA of shop\.internal in \.selvedge\/ca\n[\s\S]*\n {2}selvedge ca serve --san/);
  t.notMatch(init.stdout, /BEGIN/);
  t.equal(statSync(dir).mode & 0o777, 0o700);
  for (const path of authorityFiles(dir).filter(existsSync)) t.equal(statSync(path).mode & 0o777, 0o600, path);
  const before = readFileSync(join(dir, 'root.pem'), 'utf8');
  t.notMatch(readFileSync(join(dir, 'ca.crt'), 'utf8'), /PRIVATE/);
  for (const domain of [DOMAIN, 'other.internal']) {
    const again = await run('init', '--trust-domain', domain);
    t.match(again, { code: 1, stdout: '', stderr: /has the CA of shop\.internal already: nothing was changed/ });
  }
  t.equal(readFileSync(join(dir, 'root.pem'), 'utf8'), before);
});

t.test('issue prints the token alone on stdout, and keeps no more than its hash', async (t) => {
  const { run, dir } = await made(t);
  const { code, stdout, stderr } = await run('issue', '--id', 'service/orders', '--ttl', '2h');
  t.equal(code, 0);
  t.match(stdout, /^service\/orders~[0-9a-f]{16}~[A-Za-z0-9_-]{43}\n$/);
  const secret = stdout.trim().split('~')[2];
  t.match(stderr, /a join token for spiffe:\/\/shop\.internal\/service\/orders: good once, until \d{4}-/);
  t.notMatch(stderr, secret);
  const [record] = readdirSync(join(dir, 'tokens'));
  const kept = readFileSync(join(dir, 'tokens', record), 'utf8');
  t.notMatch(kept, secret);
  t.ok(Math.abs(JSON.parse(kept).expiresAt - Date.now() - 7_200_000) < 60_000);
  t.match(await run('issue', '--id', ORDERS), { code: 0, stdout: /^service\/orders~/ });
});

t.test('issue --svid writes files that identity.files takes, and overwrites only when told to', async (t) => {
  const { run, cwd } = await made(t);
  const first = await run('issue', '--id', 'service/orders', '--svid', '--out', 'own', '--ttl', '1h');
  t.match(first, { code: 0, stdout: '', stderr: /wrote tls\.crt, tls\.key, ca\.crt of .*orders to own/ });
  const path = (name: string): string => join(cwd, 'own', name);
  t.equal(statSync(path('tls.key')).mode & 0o777, 0o600);
  const log = listeningLog();
  const files = { cert: path('tls.crt'), key: path('tls.key'), ca: path('ca.crt') };
  const source = filesSource(files, { trustDomain: DOMAIN, log });
  t.teardown(() => source.close());
  await source.need([ORDERS]);
  t.ok(Math.abs((source.svid(ORDERS)?.expiresAt ?? 0) - Date.now() - 3_600_000) < 60_000);
  const again = ['issue', '--id', 'service/orders', '--svid', '--out', 'own'];
  t.match(await run(...again), { code: 1, stderr: /own\/tls\.crt exists already/ });
  t.match(await run(...again, '--force'), { code: 0 });
});

t.test('roll adds a second root to what is handed out, once', async (t) => {
  const { run, dir } = await made(t);
  t.match(await run('roll'), { code: 0, stdout: /a second root of shop\.internal is trusted/ });
  t.equal(chainOf(readFileSync(join(dir, 'ca.crt'), 'utf8')).length, 2);
  t.match(await run('roll'), { code: 1, stderr: /being replaced already/ });
});

t.test('revoke ends the renewals of one identity', async (t) => {
  const { run, dir } = await made(t);
  t.match(await run('revoke', '--id', 'service/orders'), { code: 0, stdout: /no certificate of spiffe.*orders/ });
  t.ok(await isRevoked(dir, ORDERS, Date.now() - 3_600_000));
  t.notOk(await isRevoked(dir, `${ORDERS}2`, Date.now() - 3_600_000));
  t.match(await run('revoke'), { code: 2, stderr: /ca revoke needs --id/ });
});

t.test('wrong usage is told with the option at fault', async (t) => {
  const { run } = await made(t);
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [[], /ca needs one of init, serve, issue, revoke, roll/],
    [['isue'], /ca has no "isue" \(did you mean "issue"/],
    [['issue', 'x'], /ca issue takes no argument "x"/],
    [['init'], /needs --trust-domain/],
    [['init', '--trust-domain', 'Shop!'], /"Shop!" is no trust domain/],
    [['init', '--trust-domain', DOMAIN, '--san', 'x'], /ca init has no option --san/],
    [['issue'], /needs --id/],
    [['issue', '--id', '../x'], /names no workload/],
    [['issue', '--id', 'spiffe://other/service/x'], /not of the trust domain/],
    [['issue', '--id', 'service/x', '--ttl', '5'], /not a duration/],
    [['issue', '--id', 'service/x', '--ttl', '31d'], /not within 1m to 30d/],
    [['issue', '--id', 'service/x', '--svid', '--ttl', '2d'], /not within 1m to 24h/],
    [['issue', '--id', 'service/x', '--out', 'd'], /--out goes with --svid/],
    [['serve', '--listen', 'x'], /"x" is no address/],
    [['serve', '--san', 'a b'], /neither a name nor an address/],
    [['serve', '--life', '9s'], /not within 10s to 24h/],
  ];
  for (const [args, message] of wrong)
    t.match(await run(...args), { code: 2, stdout: '', stderr: message }, args.join(' '));
  t.match(await run('issue', '--id', 'service/x', '--dir', 'none'), { code: 1, stderr: /there is no CA in .*none/ });
});

t.test('a workload joins the served CA and renews over its restart; SIGTERM ends it well', async (t) => {
  const { run, cwd, dir } = await made(t);
  const audit = join(cwd, 'audit.log');
  const serve = (port: number) =>
    new SelvedgeProcess(t, ['ca', 'serve', '--listen', `127.0.0.1:${port}`, '--audit', audit], { cwd });
  const first = serve(0);
  const { msg } = await first.says(/the CA service listens on/);
  const url = /https:\S+/.exec(msg)?.[0] as string;
  const token = (await run('issue', '--id', 'service/orders')).stdout.trim();
  const log = listeningLog();
  const config = { kind: 'ca', url, token, trust: join(dir, 'ca.crt'), dir: join(cwd, 'own') } as const;
  const source = caSource(config, { trustDomain: DOMAIN, log });
  await source.need([ORDERS]);
  source.close();
  first.signal('SIGTERM');
  t.equal(await first.ended, 0);
  t.match(first.lines.at(-1), { msg: 'draining' });

  const second = serve(Number(new URL(url).port));
  await second.says(/the CA service listens on/);
  const again = caSource({ ...config, token: null }, { trustDomain: DOMAIN, log });
  t.teardown(() => again.close());
  await again.need([ORDERS]);
  second.signal('SIGTERM');
  t.equal(await second.ended, 0);

  t.equal(statSync(audit).mode & 0o777, 0o600);
  const lines = readFileSync(audit, 'utf8').trim().split('\n');
  t.match(
    lines.map((line) => JSON.parse(line)),
    [{ audit: 'issue', id: ORDERS, token: token.split('~')[1] }],
  );
  const secret = token.split('~')[2];
  const everything = [...lines, first.stdout, first.stderr, second.stdout, second.stderr, ...log.lines].join('\n');
  t.notMatch(everything, new RegExp(`${secret}|PRIVATE KEY`));
});

t.test('serve says why it cannot start', async (t) => {
  const cwd = t.testdir({});
  const none = new SelvedgeProcess(t, ['ca', 'serve', '--listen', '127.0.0.1:0'], { cwd });
  t.equal(await none.ended, 3);
  t.match(none.stderr, /selvedge ca serve: there is no CA in .*: selvedge ca init makes one/);
});

#!/usr/bin/env node
// Where `selvedge` starts: picks the Node that runs it, then hands over to the command line.
// Plain JavaScript of an older kind on purpose: this file must run on whatever Node the machine has.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = module.createRequire(import.meta.url);

/** Set for the process that was started in place of this one, so that it never does so again. */
const MARK = 'SELVEDGE_NODE';

/** Which variables were added to the environment of that process, for whoever passes it on. */
const ADDED = 'SELVEDGE_MALLOC';

/**
 * What a process that serves starts with, so that memory which it used for a moment goes back to the system: the compiler's
 * work areas are mapped by themselves instead of leaving holes in the heap of malloc. For glibc; others ignore it. See
 * docs/performance.md for what it saves.
 */
const MALLOC = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '8192',
  MALLOC_TRIM_THRESHOLD_: '32768',
  MALLOC_TOP_PAD_: '16384',
};
/**
 * A hop stands beside each service, so what it takes counts as often: a small young generation, one thread to compile, and a way
 * to say when to tidy up.
 */
const HOP_FLAGS = ['--max-semi-space-size=2', '--v8-pool-size=1', '--expose-gc'];
/**
 * Small blocks for small buffers. Node's are eight times as large and, by the settings above, mapped by themselves: the kernel would
 * clear each page of them anew. And one of them outlives each collection of the young generation.
 */
const POOL_BYTES = 8_000;

/** Milliseconds between two looks for a quiet moment, and the share of them that may be work: the start is none, nor are 100 requests/s. */
const LOOK_MS = 2_500;
const QUIET = 0.03;
/** Bytes that must have come since for tidying up once more. */
const WORTH_TIDYING = 1_048_576;

/** Nobody presses Ctrl-C twice in this many milliseconds. */
const SAME_INTERRUPT_MS = 500;

/** Once a start is over, and long before the engine forgets what only the start needed. */
const KEEP_AFTER_MS = 1_000;

// TypeScript configs and plugins need a Node that strips types by itself: 22.18, 24 and later.
const pinned = process.features.typescript || process.env[MARK] ? null : pinnedNode();
if (process.env.npm_lifecycle_event !== undefined) interruptOnce();
if (process.env.npm_command === 'exec') endWithShell();
const frugal = process.env[MARK] === undefined && serves(process.argv.slice(2));
if (pinned !== null) {
  replaceProcess(pinned, []);
} else if (frugal && typeof process.execve === 'function') {
  replaceProcess(process.execPath, process.execArgv);
} else {
  delete process.env[MARK];
  await start();
}

/** The Node that came along as an optional dependency, or null where it was left out. */
function pinnedNode() {
  const { platform, arch } = process;
  for (const name of [`node-${platform}-${arch}`, `node-bin-${platform}-${arch}`]) {
    try {
      const file = join(dirname(require.resolve(`${name}/package.json`)), 'bin', 'node');
      if (existsSync(file)) return file;
    } catch {
      // Not installed: --omit=optional, or a platform without one.
    }
  }
  return null;
}

/** Whether the command line is one that runs for long; what ends at once need not care for its memory. */
function serves([command, action]) {
  return command === 'run' || command === 'proxy' || (command === 'ca' && action === 'serve');
}

function isHop() {
  const words = process.argv.slice(2);
  const named = (option) => words.some((word) => word === option || word.startsWith(`${option}=`));
  return named('--internal') && !named('--gateway');
}

/** What to start it with, on top of what the user has set: that wins. */
function frugality() {
  const given = `${process.env.NODE_OPTIONS ?? ''} ${process.execArgv.join(' ')}`;
  const wanted = isHop() ? HOP_FLAGS : [];
  const flags = wanted.filter((flag) => !given.includes(flag.split('=')[0]));
  const env = Object.fromEntries(Object.entries(MALLOC).filter(([name]) => process.env[name] === undefined));
  return { flags, env: { ...env, [ADDED]: Object.keys(env).join(' ') } };
}

function replaceProcess(node, flags) {
  const spare = frugal ? frugality() : { flags: [], env: {} };
  const args = [...flags, ...spare.flags, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const env = { ...process.env, ...spare.env, [MARK]: node };
  if (typeof process.execve === 'function') process.execve(node, [node, ...args], env);

  const child = spawn(node, args, { stdio: 'inherit', env });
  const terminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  // Of the others, those that `run -- APP` hands to its application. (SIGUSR1 is Node's own.)
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2', 'SIGQUIT']) {
    process.on(signal, () => {
      // A terminal's Ctrl-C reaches the child directly; passing it on as well would count as the second one, which ends at once.
      const typed = terminal && (signal === 'SIGINT' || signal === 'SIGQUIT');
      if (!typed) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    process.stderr.write(`selvedge: cannot start ${node}: ${error.message}\n`);
    process.exitCode = 3;
  });
  child.on('exit', (code, signal) => {
    process.exit(signal === null ? code : 128 + constants.signals[signal]);
  });
}

/** npm passes on a Ctrl-C that the terminal has delivered to us already; taken for a second one, it would end a drain at once. */
function interruptOnce() {
  const { emit } = process;
  let last = Number.NEGATIVE_INFINITY;
  process.emit = (event, ...args) => {
    if (event === 'SIGINT') {
      const now = performance.now();
      if (now - last < SAME_INTERRUPT_MS) return true;
      last = now;
    }
    return emit.call(process, event, ...args);
  };
}

/** `npx` passes SIGTERM to its shell, and the shell dies of it without telling anyone: seen here by getting another parent. */
function endWithShell() {
  const shell = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 250);
  watch.unref();
}

async function start() {
  if (serves(process.argv.slice(2))) Buffer.poolSize = POOL_BYTES;
  if (isHop() && typeof globalThis.gc === 'function') tidyWhenQuiet(globalThis.gc);
  const { home } = await import('./home.js');
  const { url } = home();
  keepCompiledCode();
  serveImports(url);
  await import(url('main'));
}

/**
 * A start leaves behind a quarter of a hop's heap, scattered so that it does not shrink any more once requests have grown into it, and
 * each busy time leaves a little. It is collected in quiet moments, which takes 60 ms; a process that has none is left to the engine.
 */
function tidyWhenQuiet(collect) {
  let last = performance.eventLoopUtilization();
  let tidy = 0;
  const look = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    if (utilization > QUIET || process.memoryUsage.rss() < tidy + WORTH_TIDYING) return;
    collect({ type: 'major', flavor: tidy === 0 ? 'last-resort' : 'regular' });
    tidy = process.memoryUsage.rss();
  }, LOOK_MS);
  look.unref();
}

/**
 * A start compiles its code; the next one finds it done. In the user's own cache folder, because code that others
 * could write to would be code that others run. Where that cannot be written nothing is kept, and nothing else changes.
 */
function keepCompiledCode() {
  if (typeof module.enableCompileCache !== 'function' || process.env.NODE_COMPILE_CACHE) return;
  const caches = process.env.XDG_CACHE_HOME || (process.env.HOME ? join(process.env.HOME, '.cache') : null);
  if (caches === null) return;
  module.enableCompileCache(join(caches, 'selvedge'));
  setTimeout(() => module.flushCompileCache?.(), KEEP_AFTER_MS).unref();
}

/**
 * A config or plugin file anywhere on disk may import `selvedge` and `selvedge/plugin`, and gets this very copy: two copies
 * would not know each other's errors. `typebox` and `fastify-plugin` come from here where the file has none of its own.
 */
function serveImports(url) {
  if (typeof module.registerHooks !== 'function') return;
  const own = new Map([
    ['selvedge', url('index')],
    ['selvedge/plugin', url('plugin')],
  ]);
  const lent = new Set(['typebox', 'fastify-plugin']);
  module.registerHooks({
    resolve(specifier, context, next) {
      const url = own.get(specifier);
      if (url !== undefined) return { url, shortCircuit: true };
      try {
        return next(specifier, context);
      } catch (error) {
        if (!lent.has(specifier)) throw error;
        return next(specifier, { ...context, parentURL: import.meta.url });
      }
    },
  });
}

// The command line: every command by name. `bin/selvedge.js` imports this file, which runs it.
import { EXIT } from './cli/command.ts';
import { type CommandTable, runCommandLine } from './cli/command-line.ts';

const COMMANDS: CommandTable = {
  run: () => import('./cli/run.ts'),
  proxy: () => import('./cli/proxy.ts'),
  check: () => import('./cli/check.ts'),
  print: () => import('./cli/print.ts'),
  explain: () => import('./cli/explain.ts'),
  authz: () => import('./cli/authz.ts'),
  rollout: () => import('./cli/rollout.ts'),
  intercept: () => import('./cli/intercept.ts'),
  egress: () => import('./cli/egress.ts'),
  ca: () => import('./cli/ca.ts'),
  init: () => import('./cli/init.ts'),
  schema: () => import('./cli/schema.ts'),
};

// Whoever reads our output may leave at any time (`selvedge print | head`); a gateway goes on without its reader.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

let code: number;
try {
  code = await main();
} catch (error) {
  process.stderr.write(
    `selvedge: this is a defect of Selvedge, please report it\n${(error as Error).stack ?? String(error)}\n`,
  );
  code = EXIT.couldNotStart;
}
// A config in TypeScript may have left handles open; what was written must still arrive.
process.stdout.write('', () => process.exit(code));

async function main(): Promise<number> {
  if (process.env.SELVEDGE_WORKER !== undefined) {
    const { runWorker, workerNumber } = await import('./cli/worker.ts');
    const worker = workerNumber();
    if (worker !== null) return runWorker(worker);
  }
  return runCommandLine(COMMANDS, process.argv.slice(2), {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
  });
}

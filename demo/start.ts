// `npm start`: the shop; `npm start -- -c FILE`: any other config, by the command line in this very process.
// Neither loads what the other needs.
if (process.argv.length > 2) {
  process.argv.splice(2, 0, 'run');
  await import('../bin/selvedge.js');
} else {
  const { runShop } = await import('./shop.ts');
  await runShop();
}

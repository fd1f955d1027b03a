// A process of its own that opens the CA in a directory and prints its roots; for tests of several that do so at once.
import { openAuthorityDirectory } from '../../../src/identity/authority-directory.ts';

const [dir, startAt] = process.argv.slice(2);
// All at the same moment, as far as that is possible.
while (Date.now() < Number(startAt));
const { bundle, issuer } = await openAuthorityDirectory(dir, 'shop.internal', Date.now());
process.stdout.write(JSON.stringify({ bundle, issuer: issuer.certificate.fingerprint256 }));

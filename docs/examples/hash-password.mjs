// Prints a line for the users of basic-auth. The password is read from standard input: arguments stand in the history of the shell.
import { randomBytes, scryptSync } from 'node:crypto';
import { readFileSync } from 'node:fs';

const base64 = (bytes) => bytes.toString('base64').replace(/=+$/, '');
const password = readFileSync(0, 'utf8').replace(/\r?\n$/, '');
const salt = randomBytes(16);
const hash = scryptSync(password, salt, 32, { N: 2 ** 15, r: 8, p: 3, maxmem: 2 ** 26 });
console.log(`${process.argv[2]}:$scrypt$ln=15,r=8,p=3$${base64(salt)}$${base64(hash)}`);

// PROXY headers as load balancers write them, and as they must not.
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

/** Version 2. `addresses` is the address block with whatever TLVs follow. */
export function binaryHeader(verCmd: number, family: number, addresses: Buffer, announced = addresses.length): Buffer {
  const fixed = Buffer.from([verCmd, family, announced >> 8, announced & 0xff]);
  return Buffer.concat([SIGNATURE, fixed, addresses]);
}

/** The address block of TCP4: from `source` port 40000 to 192.0.2.1 port `port`. */
export function tcp4(source: string, port = 443): Buffer {
  const ports = [40_000 >> 8, 40_000 & 0xff, port >> 8, port & 0xff];
  return Buffer.from([...source.split('.').map(Number), 192, 0, 2, 1, ...ports]);
}

/** Of TCP6, from 16 octets in hex. */
export function tcp6(source: string, port = 443): Buffer {
  return Buffer.concat([Buffer.from(source, 'hex'), Buffer.alloc(16), Buffer.from([1, 2, port >> 8, port & 0xff])]);
}

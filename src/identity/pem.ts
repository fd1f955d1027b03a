// PEM (RFC 7468) as certificates, keys and requests lie in files.

/** `label`: `CERTIFICATE`. */
export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER of every block with this label, in order; text around them is skipped. */
export function pemBlocks(text: string, label: string): Buffer[] {
  const block = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]*)-----END ${label}-----`, 'g');
  return [...text.matchAll(block)].map((match) => Buffer.from(match[1], 'base64'));
}

/** Whether a block was begun and is not whole: what a file looks like that is being written. */
export function isBrokenOff(text: string): boolean {
  return (text.match(/-----BEGIN /g) ?? []).length !== (text.match(/-----END [A-Z0-9 ]+-----/g) ?? []).length;
}

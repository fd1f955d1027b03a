// Whether a host is one of those that routes name, as the route table would find it.

export class HostSet {
  readonly #exact: ReadonlySet<string>;
  /** `.example.com` of `*.example.com`. */
  readonly #suffixes: ReadonlySet<string>;

  /** @param hosts as routes have them: lower-case, `*.` in front stands for one or more labels */
  constructor(hosts: readonly string[]) {
    this.#exact = new Set(hosts.filter((host) => !host.startsWith('*.')));
    this.#suffixes = new Set(hosts.filter((host) => host.startsWith('*.')).map((host) => host.slice(1)));
  }

  /** `host` is normalised: see `normalizeHost`. */
  has(host: string): boolean {
    if (this.#exact.has(host)) return true;
    for (let dot = host.indexOf('.', 1); dot > 0; dot = host.indexOf('.', dot + 1))
      if (this.#suffixes.has(host.slice(dot))) return true;
    return false;
  }
}

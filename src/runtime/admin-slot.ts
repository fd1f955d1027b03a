// The place of the admin server in a running process: opened at start, moved by a reload, closed last of all.
import type { Admin } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import { formatHostPort } from '../http/address.ts';

export interface AdminServer {
  address(): { readonly host: string; readonly port: number };
  close(): Promise<void>;
}

/** Opens the admin server; rejects when it cannot listen. */
export type OpenAdmin = (admin: Admin) => Promise<AdminServer>;

export interface PreparedAdmin {
  readonly problems: readonly Problem[];
  commit(): void;
  abandon(): Promise<void>;
}

const NOTHING: PreparedAdmin = { problems: [], commit() {}, async abandon() {} };

export class AdminSlot {
  readonly #open: OpenAdmin;
  #config: Admin | null = null;
  #server: AdminServer | null = null;

  constructor(open: OpenAdmin) {
    this.#open = open;
  }

  address(): { readonly host: string; readonly port: number } | null {
    return this.#server?.address() ?? null;
  }

  /** Opens the server at its new address beside the old one. Never rejects. */
  async prepare(next: Admin | null): Promise<PreparedAdmin> {
    const old = this.#server;
    const oldConfig = this.#config;
    if (next === null) return { ...NOTHING, commit: () => this.#replace(null, null) };
    if (old !== null && oldConfig?.host === next.host && oldConfig.port === next.port) return NOTHING;
    // Same port, other host: the two may overlap (127.0.0.1 and 0.0.0.0), so the old one makes room first.
    const makesRoom = old !== null && oldConfig?.port === next.port && next.port !== 0;
    if (makesRoom) await old.close();
    try {
      const server = await this.#open(next);
      return {
        problems: [],
        commit: () => this.#replace(next, server),
        abandon: async () => {
          await server.close();
          if (makesRoom) await this.#reopen();
        },
      };
    } catch (error) {
      return {
        ...NOTHING,
        problems: [adminProblem(next, error as Error)],
        abandon: () => (makesRoom ? this.#reopen() : NOTHING.abandon()),
      };
    }
  }

  async close(): Promise<void> {
    await this.#server?.close();
    this.#server = null;
  }

  #replace(config: Admin | null, server: AdminServer | null): void {
    void this.#server?.close();
    this.#config = config;
    this.#server = server;
  }

  async #reopen(): Promise<void> {
    this.#server = this.#config === null ? null : await this.#open(this.#config).catch(() => null);
  }
}

function adminProblem({ host, port }: Admin, error: NodeJS.ErrnoException): Problem {
  const why =
    error.code === 'EADDRINUSE' ? 'the port is taken; set admin.port (0: any free one) or admin: false' : error.message;
  return {
    severity: 'error',
    place: null,
    path: 'admin.port',
    message: `cannot listen on ${formatHostPort(host, port)}: ${why}`,
  };
}

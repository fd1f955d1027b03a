// What the running Selvedge says of its own certificates: what it could not renew becomes a warning of `check` before it is an outage.
import type { Config } from '../config/model.ts';
import type { Problem } from '../config/problem.ts';
import type { Provenance } from '../config/provenance.ts';
import type { AskAdmin } from './ask-admin.ts';

/** One warning for each of the source's own. Asked only about a config whose mesh needs certificates. */
export async function adviseOnIdentity(config: Config, provenance: Provenance, ask: AskAdmin): Promise<Problem[]> {
  if (config.admin === null || !config.services.some(isMeshed)) return [];
  const page = (await ask(config.admin, '/identity')) as { trustDomain?: unknown; warnings?: unknown } | null;
  // Whoever listens there may be no Selvedge, or of another mesh.
  if (page?.trustDomain !== config.mesh.trustDomain || !Array.isArray(page.warnings)) return [];
  const place = provenance.locate(['mesh', 'identity']);
  return page.warnings
    .filter((warning) => typeof warning === 'string')
    .map((warning) => ({
      severity: 'warning' as const,
      place,
      path: 'mesh.identity',
      message: `${warning} (seen by the running Selvedge)`,
    }));
}

function isMeshed({ mtls, internal, endpoints }: Config['services'][number]): boolean {
  return mtls !== 'off' && (internal !== null || endpoints.some(({ hop }) => hop !== null));
}

// The schema of what holds between hops: trust domain, mTLS, and where certificates come from.
import * as Type from 'typebox/type';
import { choice, named, object, text } from '../schema-parts.ts';

const file = (description: string, example: string) => text(description, { example, minLength: 1 });

const identity = object(
  {
    builtin: Type.Optional(
      object(
        {
          dir: Type.Optional(
            text('Folder of the CA; every process of this machine that shares it shares the trust.', {
              example: '.selvedge/identity',
              minLength: 1,
            }),
          ),
        },
        'A CA for one machine, made on first start. Not given: `.selvedge/identity` in the folder that the process runs in.',
        { example: { dir: '.selvedge/identity' } },
      ),
    ),
    files: Type.Optional(
      object(
        {
          cert: file('PEM file with the certificate and its intermediates.', 'tls.crt'),
          key: file('PEM file with its key.', 'tls.key'),
          ca: file('PEM file with the roots of the trust domain.', 'ca.crt'),
        },
        'Files that something else writes; watched, and rotated in place.',
        { example: { cert: 'tls.crt', key: 'tls.key', ca: 'ca.crt' } },
      ),
    ),
    ca: Type.Optional(
      object(
        {
          url: text('Where `selvedge ca serve` answers.', { example: 'https://ca.internal:9443', minLength: 1 }),
          token: Type.Optional(
            text('Join token for the first certificate; afterwards the certificate itself renews.', {
              example: '…',
              secret: true,
            }),
          ),
          trust: file('PEM file with the root of the CA.', 'ca.crt'),
          dir: Type.Optional(
            text('Folder that keeps certificates over a restart.', { example: '.selvedge/identity', minLength: 1 }),
          ),
        },
        'A CA service for several machines.',
        { example: { url: 'https://ca.internal:9443', token: '…', trust: 'ca.crt' } },
      ),
    ),
    spiffe: Type.Optional(
      object(
        { socket: text('Unix socket of the Workload API.', { example: 'unix:///run/spire/agent.sock', minLength: 1 }) },
        'The SPIFFE Workload API, as SPIRE and others serve it.',
        { example: { socket: 'unix:///run/spire/agent.sock' } },
      ),
    ),
  },
  'Where the certificates of this process come from; exactly one of these.',
  { example: { builtin: { dir: '.selvedge/identity' } } },
);

export const MTLS_MODES = ['strict', 'permissive', 'off'] as const;

export const mtls = (description: string, fallback?: (typeof MTLS_MODES)[number]) =>
  choice(
    MTLS_MODES,
    `${description} \`strict\`: certificates both ways. \`permissive\`: plain requests are served too, and counted. \`off\`: plain HTTP.`,
    {
      example: 'strict',
      ...(fallback === undefined ? {} : { default: fallback }),
    },
  );

export const mesh = object(
  {
    trustDomain: Type.Optional(
      text('Of the SPIFFE ids: `spiffe://TRUST_DOMAIN/service/orders`.', {
        default: 'mesh.internal',
        example: 'shop.internal',
        pattern: '^[a-z0-9._-]{1,255}$',
        expected: 'a trust domain: lower-case letters, digits, ".", "-" and "_"',
      }),
    ),
    mtls: Type.Optional(mtls('Encryption and identity between hops.', 'strict')),
    trustDomainAliases: Type.Optional(
      Type.Union(
        [
          named(file('PEM file with its roots.', 'partner-ca.crt'), 'By trust domain.'),
          Type.Array(named(file('PEM file with its roots.', 'partner-ca.crt'), 'By trust domain.')),
        ],
        {
          description: 'Other trust domains whose peers are known, each with its roots.',
          default: {},
          examples: [{ 'partner.internal': 'partner-ca.crt' }],
        },
      ),
    ),
    identity: Type.Optional(identity),
  },
  'What holds between hops.',
  { default: {}, example: { trustDomain: 'shop.internal' } },
);

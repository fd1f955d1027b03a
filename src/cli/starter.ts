// The config that `selvedge init` writes: one gateway, one service, one route, and the next steps as comments.

export const STARTER = `# yaml-language-server: $schema=./selvedge.schema.json
# A gateway on port 8080 in front of http://localhost:3000. Every key: docs/config-reference.md, or your editor's completion.
#
#   selvedge check     what is wrong with this file
#   selvedge run       run it; edits take effect by themselves
#   selvedge explain GET http://localhost:8080/    where a request goes, and why
version: 1

gateways:
  public:
    listeners:
      - name: http
        port: \${PORT:-8080}           # environment variables work in every value
      # - name: https                 # certificates are watched and rotated in place
      #   port: 8443
      #   tls: { certificates: [{ cert: edge.crt, key: edge.key }] }
    # clientAddress: { trustedProxies: [10.0.0.0/8] }    # when a load balancer stands in front
    # limits: { bodyBytes: 10MiB }
    # plugins: [request-id]           # run for every route of this gateway

services:
  app:
    endpoints:
      - localhost:3000                # more than one: requests are balanced

routes:                               # their order never decides, the most specific one wins
  - name: app
    match: [{ path: / }]
    to: app

  # - name: api                       # /api/orders reaches the service as /orders
  #   match: [{ path: /api, methods: [GET, POST] }]
  #   rewrite: { prefix: / }
  #   to: app
  #   timeout: { request: 5s }

  # - name: old-page
  #   match: [{ path: { exact: /old } }]
  #   redirect: { path: /new, status: 301 }
`;

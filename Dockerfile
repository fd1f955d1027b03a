# The image of a gateway or a hop: `docker run -v ./config:/etc/selvedge:ro selvedge run -c /etc/selvedge/shop.yaml`.
ARG NODE_VERSION=26.10.0

FROM node:${NODE_VERSION}-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY bin ./bin
COPY scripts ./scripts
COPY src ./src
RUN npm run build

# The sample services of docker-compose.yml; not part of the image that is published.
FROM build AS demo
COPY demo ./demo
USER node
ENV HOST=0.0.0.0 PORT=3000
ENTRYPOINT ["node", "demo/service.ts"]

FROM node:${NODE_VERSION}-trixie-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# The image has the right Node already, so the one that comes as an optional dependency stays out.
RUN npm ci --omit=dev --omit=optional --ignore-scripts

FROM node:${NODE_VERSION}-trixie-slim AS runtime
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY bin ./bin
COPY package.json selvedge.schema.json LICENSE ./
USER node
EXPOSE 8080 8443
# Readiness on the admin port, which listens on loopback only: the check runs inside.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9901/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/bin/selvedge.js"]
CMD ["run", "-c", "/etc/selvedge"]

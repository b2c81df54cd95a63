# Our four services, a target each: raw-producer, agg-producer, jdbc-sink, deribit-sim. docker-compose.yml builds all of them.

# ---- one build for all four ----

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
COPY config ./config
COPY connect ./connect
COPY crates ./crates
COPY patches ./patches
# Crates and what was compiled of them outlive the build; the lock keeps two builds from working in one folder. Cargo takes a source
# that is older than the last build for built: a checkout that is older than another one's build is not, hence `touch`.
RUN --mount=type=cache,id=kstream-agg-crates,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=kstream-agg-target,target=/src/target,sharing=locked \
    find crates config connect patches -type f -exec touch {} + \
 && cargo build --release --workspace --locked --features common/kafka-tls-vendored \
 && install -D --target-directory=/out \
        target/release/raw-producer target/release/agg-producer target/release/jdbc-sink target/release/deribit-sim

# ---- a service: its binary, the C library, certificate authorities; no shell, not root ----

FROM gcr.io/distroless/cc-debian12:nonroot AS raw-producer
COPY --from=build /out/raw-producer /usr/local/bin/
EXPOSE 9101
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["/usr/local/bin/raw-producer", "health"]
ENTRYPOINT ["/usr/local/bin/raw-producer"]

FROM gcr.io/distroless/cc-debian12:nonroot AS agg-producer
COPY --from=build /out/agg-producer /usr/local/bin/
EXPOSE 9102
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["/usr/local/bin/agg-producer", "health"]
ENTRYPOINT ["/usr/local/bin/agg-producer"]

FROM gcr.io/distroless/cc-debian12:nonroot AS jdbc-sink
COPY --from=build /out/jdbc-sink /usr/local/bin/
EXPOSE 9103
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["/usr/local/bin/jdbc-sink", "health"]
ENTRYPOINT ["/usr/local/bin/jdbc-sink"]

FROM gcr.io/distroless/cc-debian12:nonroot AS deribit-sim
COPY --from=build /out/deribit-sim /usr/local/bin/
EXPOSE 8090 9104
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["/usr/local/bin/deribit-sim", "health"]
ENTRYPOINT ["/usr/local/bin/deribit-sim"]

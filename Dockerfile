# The service with SoftHSM2, so that it runs without hardware, and the object gateway. For a real HSM, build on this image: add the
# vendor's PKCS#11 module and name it in the configuration.
#
# Checked without a container engine: scripts/check_containers.py holds this file to the repository.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY proto proto
COPY softhsm-config softhsm-config
COPY tests tests
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release -p kms-server -p kms-cli -p obs-gateway --bin dewpoint --bin dewctl --bin obs-gateway \
    && cp target/release/dewpoint target/release/dewctl target/release/obs-gateway /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends softhsm2 \
    && rm -rf /var/lib/apt/lists/*
# A new named volume takes the owner and the mode of the directory that it is mounted on.
RUN groupadd --gid 10001 dewpoint \
    && useradd --uid 10001 --gid dewpoint --no-create-home --shell /usr/sbin/nologin dewpoint \
    && install -d -o dewpoint -g dewpoint -m 0700 /var/lib/dewpoint /var/lib/dewpoint/token /var/lib/dewpoint/data \
        /var/lib/dewpoint/objects
COPY --from=build /usr/local/bin/dewpoint /usr/local/bin/dewctl /usr/local/bin/obs-gateway /usr/local/bin/
COPY --chmod=0755 softhsm-config/init-token.sh /usr/local/bin/init-token.sh
COPY --chmod=0755 scripts/container-healthcheck.sh /usr/local/bin/container-healthcheck.sh
COPY LICENSE /usr/share/doc/dewpoint/LICENSE

ENV SOFTHSM2_CONF=/var/lib/dewpoint/token/softhsm2.conf
USER 10001:10001
EXPOSE 7443 7444 7445
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["container-healthcheck.sh"]
ENTRYPOINT ["dewpoint"]
CMD ["serve", "--config", "/etc/dewpoint/dewpoint.toml"]

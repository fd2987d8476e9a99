# syntax=docker/dockerfile:1
# One image for every role: the command says which, as in `docker run kiln api`.

FROM rust:1.95-slim-bookworm AS build
# The image brings its toolchain; rust-toolchain.toml would have it fetch formatter and linter, which nobody needs here.
ENV RUSTUP_TOOLCHAIN=1.95.0 SQLX_OFFLINE=true
WORKDIR /src
COPY . .
# Registry and artifacts stay on the build machine between builds, so the programs must be copied out of there.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --workspace \
        --bin api --bin text --bin image --bin video --bin audio --bin delivery \
        --bin scheduler --bin simulator --bin kiln \
    && mkdir /programs \
    && cd target/release \
    && cp api text image video audio delivery scheduler simulator kiln /programs/

FROM debian:bookworm-slim
# Programs that workers use where they are there: ffmpeg for posters of films, espeak-ng for the model of that name.
ARG EXTRA_PACKAGES=""
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates $EXTRA_PACKAGES \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin kiln
COPY --from=build /programs/ /usr/local/bin/
USER 10001
WORKDIR /tmp
EXPOSE 8080
CMD ["kiln", "--help"]

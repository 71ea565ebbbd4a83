# A static binary in an empty image: no shell, no package manager, not root. glibc's resolver needs nothing but the
# /etc/resolv.conf that the container runtime provides; certificate authorities are compiled in.
FROM rust:1.95-slim-bookworm AS build
RUN command -v cc >/dev/null || (apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev)
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
# --target keeps the static flag away from build scripts and procedural macros.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin sidepost --target "$target" \
 && cp "target/$target/release/sidepost" /sidepost \
 && install -d -m 0700 /state

FROM scratch
COPY --from=build /sidepost /sidepost
# For state.url = "sqlite:///var/lib/sidepost/state.db", if you mount a volume there.
COPY --from=build --chown=65532:65532 /state /var/lib/sidepost
USER 65532:65532
EXPOSE 2525 8025 8026
HEALTHCHECK --interval=30s --timeout=5s --start-period=2s CMD ["/sidepost", "health"]
ENTRYPOINT ["/sidepost"]
CMD ["serve"]

# The coordinator and the command line: one program of about 60 MB, without libtorch. From the root of the repository:
#
#     docker build -f deploy/docker/coordinator.Dockerfile -t epsweep-coordinator:0.1.0 .
#
# docs/kubernetes.md says what of this was tried.
ARG RUST=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${RUST} AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --no-default-features --bin epsweep \
 && install -D -s target/debug/epsweep /out/epsweep

FROM ${BASE}
COPY --from=build /out/epsweep /usr/local/bin/epsweep
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/epsweep/
RUN mkdir /state && chown 10001:10001 /state
USER 10001:10001
VOLUME /state
EXPOSE 7070 9464
# As process 1 it has handlers of its own for SIGTERM and SIGINT, and no children to reap.
ENTRYPOINT ["epsweep"]
CMD ["serve", "--state", "/state", "--listen", "127.0.0.1:7070"]

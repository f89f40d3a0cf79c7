# The worker, on the libtorch of a PyTorch image: CPU or CUDA, as that image is. From the root of the repository:
#
#     docker build -f deploy/docker/worker.Dockerfile -t epsweep-worker:0.1.0 .
#
# Both bases must hold the same torch 2.13 in the same folder, since the program finds it by that path (rpath). The first
# needs its headers and a C++ compiler besides. docs/kubernetes.md says what of this was tried.
ARG TORCH_DEVEL=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-devel
ARG TORCH_RUNTIME=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime
ARG RUST=rust:1.95-bookworm

FROM ${RUST} AS rust

FROM ${TORCH_DEVEL} AS build
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV PATH=/usr/local/cargo/bin:$PATH CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup LIBTORCH_USE_PYTORCH=1
WORKDIR /src
COPY . .
# Checks that the torch of the image is the one that the program is written for, and tells cargo where it is.
RUN python3 scripts/setup_libtorch.py \
 && cargo build --locked --bin epsweep-worker \
 && install -D -s target/debug/epsweep-worker /out/epsweep-worker

FROM ${TORCH_RUNTIME}
COPY --from=build /out/epsweep-worker /usr/local/bin/epsweep-worker
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/epsweep/
RUN mkdir /cache && chown 10001:10001 /cache
USER 10001:10001
VOLUME /cache
EXPOSE 9465
ENTRYPOINT ["epsweep-worker"]
CMD ["--help"]

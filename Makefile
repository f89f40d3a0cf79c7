# Two commands matter: `make demo` and `make test`. Everything they need is set up on the way.

CARGO  ?= cargo
PYTHON ?= python3
BIN    := $(or $(CARGO_TARGET_DIR),target)/debug
# nextest runs the tests in parallel processes; without it, cargo's own runner does.
RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run" || echo test)

.PHONY: test-hosts test-s3 test-slurm fuzz help setup build demo test check fix bench-workers bench-attacks bench-coordinator chaos test-metrics test-kubernetes test-images

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

setup:           ## find or install libtorch, and tell cargo where it is
	@$(PYTHON) scripts/setup_libtorch.py

build: setup     ## both programs, in target/debug
	$(CARGO) build --locked --bins

demo: build      ## a real sweep on the embedded digits over two worker processes, up to its report
	$(BIN)/epsweep run examples/digits.yaml --workers 2
	@echo "open runs/digits/report/index.html in a browser"

test: setup      ## all tests
	$(CARGO) $(RUNNER) --locked

check: setup     ## format, lints, docs; changes nothing
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

fix: setup       ## mend what `check` can mend
	$(CARGO) fmt
	$(CARGO) clippy --fix --allow-dirty --allow-staged --all-targets

chaos: setup     ## 200 random kill -9 over coordinator and workers, and a coordinator away for a minute
	EPSWEEP_KILLS=200 EPSWEEP_DOWN_SECONDS=60 $(CARGO) test --locked --test cli -- --nocapture --test-threads 1 random_kills outlives

S3_VENV ?= target/s3
test-s3: setup   ## artifacts in a bucket, against moto's S3 server (installs it from PyPI)
	test -x $(S3_VENV)/bin/moto_server || { $(PYTHON) -m venv $(S3_VENV) && $(S3_VENV)/bin/pip install --quiet 'moto[s3,server]'; }
	EPSWEEP_S3_SERVER=$(abspath $(S3_VENV)/bin/moto_server) $(CARGO) test --locked --test cli -- --nocapture s3::

test-slurm: setup ## sweeps as jobs of a real Slurm on this machine (root; Debian's slurmctld, slurmd, slurm-client, munge)
	EPSWEEP_TEST_SLURM=$(or $(EPSWEEP_TEST_SLURM),yes) $(CARGO) test --locked --test cli -- --nocapture --test-threads 1 slurm

test-hosts: setup ## three hosts as network namespaces: latency, losses, and a link cut for 30 s (root; iproute2)
	EPSWEEP_TEST_HOSTS=1 $(CARGO) test --locked --test cli -- --nocapture --test-threads 1 hosts

test-metrics: build  ## a sweep under a real Prometheus (Debian's package), and every query of the dashboard
	$(PYTHON) scripts/test_metrics.py $(BIN)

test-kubernetes: build  ## the manifests against the schemas of three versions of Kubernetes (needs kubectl)
	$(PYTHON) scripts/test_kubernetes.py $(BIN)/epsweep $(BIN)/epsweep-worker

test-images: build  ## the images' entry points as the manifests run them, in a Debian made by debootstrap (needs root)
	$(PYTHON) scripts/test_images.py $(BIN)

bench-workers: build  ## how much faster two workers are than one, on equal tasks
	$(PYTHON) scripts/bench_workers.py $(BIN)/epsweep

bench-attacks: build  ## what robustness curves cost here and in torchattacks and pyautoattack (installs both)
	$(PYTHON) scripts/bench_attacks.py $(BIN)/epsweep $(BENCH)

FUZZ_SECONDS ?= 60
fuzz:            ## run every fuzz target for FUZZ_SECONDS (needs nightly Rust and cargo-fuzz)
	@for target in sweep_file message record witnesses array; do \
		mkdir -p fuzz/corpus/$$target; \
		$(CARGO) +nightly fuzz run -s none $$target fuzz/corpus/$$target tests/fuzz/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 || exit 1; \
	done

bench-coordinator: setup  ## tasks per second, and what one costs the coordinator, with 2, 128 and 2,048 slots
	$(CARGO) bench --locked --profile dev --bench coordinator

# The doors of the project. `make help` lists them; CONTRIBUTING.md says more.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Build results live outside of the checkout, so that a fresh clone builds warm. Set one of these to move them.
CACHE := $(or $(STAFFETTA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/staffetta)
export CARGO_TARGET_DIR ?= $(or $(STAFFETTA_TARGET),$(CACHE)/target)
# `--version` and `staffetta_build_info` tell it. With another commit only the programs are linked anew.
export STAFFETTA_COMMIT := $(shell scripts/commit)
# The servers that the tests start are often outside of a user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

SCRIPTS := .ci/run scripts/setup scripts/check-layers scripts/check-clocks scripts/check-units scripts/commit scripts/digests scripts/deb scripts/test-deb scripts/test-k8s scripts/earlier deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm scripts/check-manifests \
           deploy/k8s/overlays/dev/certificate deploy/k8s/rpc-certificates
# Where `make image` puts what it makes.
IMAGE_DIR ?= $(CARGO_TARGET_DIR)/image
# Options for `make run`, `make test` (a filter, say) and `make bench`: make test ARGS=smtp
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: ## the whole cluster in one process, with a demonstration message
	scripts/setup run
	cargo run -p staffetta-cli --bin staffetta -- up --demo $(ARGS)

.PHONY: test
test: ## every test, with real peers, and the Kubernetes manifests
	scripts/setup test
	scripts/check-manifests
	$(if $(ARGS),,scripts/check-manifests --faults)
	cargo build --workspace --bins --tests
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --workspace $(ARGS); \
	else \
	  cargo test --workspace --lib --bins --tests --no-fail-fast -- $(ARGS); \
	fi

.PHONY: test-peers
test-peers: ## mail delivered to Postfix, Exim, OpenSMTPD, Haraka and Dovecot, and read from the store of each. As root; ARGS=exim
	scripts/setup test
	scripts/setup peers
	cargo build --workspace --bins --test matrix
	cargo test --workspace --test matrix -- --ignored $(ARGS)

.PHONY: test-k8s
test-k8s: ## deploy/k8s in pods that podman really runs: messages, restarts under load, changed Secrets. As root; ARGS=rolling
	scripts/setup k8s
	cargo build --workspace --bins --test pods
	earlier=$${STAFFETTA_EARLIER-$$(scripts/earlier)}; STAFFETTA_EARLIER=$$earlier scripts/test-k8s $(CARGO_TARGET_DIR)/debug cargo test --workspace --test pods -- --ignored --nocapture --test-threads=1 $(ARGS)

.PHONY: test-deb
test-deb: ## the Debian package really installed, into a view of this system that is thrown away. As root
	scripts/setup deb
	cargo build --workspace --bins
	scripts/test-deb $(CARGO_TARGET_DIR)/debug

.PHONY: image
image: ## the image without a daemon: staffetta-image.tar and sbom.spdx.json in IMAGE_DIR, or in the folder of the build
	cargo build --release --locked --bins
	mkdir -p $(IMAGE_DIR)
	scripts/image $(CARGO_TARGET_DIR)/release $(IMAGE_DIR)
	@echo "$(IMAGE_DIR)/staffetta-image.tar"

.PHONY: check
check: ## format, lints, layers, scripts
	scripts/setup check
	cargo fmt --all --check
	scripts/check-layers
	scripts/check-clocks
	scripts/check-units
	scripts/mutants --list >/dev/null
	shellcheck $(SCRIPTS)
	$(CACHE)/python/bin/hadolint deploy/docker/Dockerfile
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: faults
faults: ## everything dies under load, three times each, with an account of every message; ARGS=redis for some
	scripts/setup test
	cargo build --workspace --bins --tests
	STAFFETTA_FAULTS=$${STAFFETTA_FAULTS:-3} cargo test --workspace --test faults -- --nocapture --test-threads 1 $(ARGS)

.PHONY: bench
bench: ## Staffetta beside Postfix on this machine: accepted/s, relayed/s, CPU per message; ARGS="--scenario stall" and others
	scripts/setup bench
	cargo build --release --bins
	cargo run --release -p staffetta-bench -- $(ARGS)

.PHONY: mutants
mutants: ## small faults put into the code one at a time: which do the tests see? ARGS=queue, ARGS='--since main~5'
	scripts/setup test
	scripts/mutants $(ARGS)

.PHONY: fuzz
fuzz: ## mutated conversations, addresses, headers and logins for a minute each target; ARGS=600 for longer
	FUZZ_SECONDS=$(or $(ARGS),60) FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} cargo test --release -p staffetta-smtp -p staffetta-transport -p staffetta-dkim --test fuzz -- --nocapture
	FUZZ_SECONDS=$(or $(ARGS),60) FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} cargo test --release -p staffetta-auth -p staffetta-frontend --lib fuzzed -- --nocapture

.PHONY: docs
docs: ## write what is made from the code: the pages about configuration, log and metrics, the rules for Prometheus
	scripts/setup check
	cargo run --quiet -p staffetta-config --example reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	cargo run --quiet -p staffetta-telemetry --example log > docs/log.md.new
	mv docs/log.md.new docs/log.md
	cargo run --quiet -p staffetta-cli --example metrics > docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	$(CACHE)/python/bin/python scripts/alarms.py . > deploy/prometheus/rules.yml.new
	mv deploy/prometheus/rules.yml.new deploy/prometheus/rules.yml
